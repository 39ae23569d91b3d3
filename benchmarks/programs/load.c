/*
 * load is one end of a measurement: a client on the laptop or a server beyond.
 *
 *	load client|server KIND [key=value]...
 *
 * It is C because a per-socket shim (LD_PRELOAD) sees only programs that call
 * the C library, and every contestant is to have the same program as its
 * client. The client opens an IPv4 or IPv6 socket as the address says; the
 * server has IPv6 ones only.
 *
 * File descriptor 3 is memory shared with the harness: struct page. The harness
 * reads the counters at the two ends of its window, together with the clocks of
 * the CPUs, so that everything is about the same moment; the program just runs
 * until it is killed. Counters have one writer each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { LANES = 8, BUCKETS = 2048 };

typedef _Atomic uint64_t counter;

struct lane {
	counter units;   /* arrived: datagrams, round trips, connections */
	counter bytes;   /* arrived, without headers */
	counter sent;    /* datagrams that the kernel took */
	counter refused; /* that it did not take, or answers that did not come */
	uint64_t pad[4];
};

static struct page {
	counter state;     /* enum state */
	counter opened_ns; /* how long it took to open all connections */
	uint64_t pad[6];
	struct lane lanes[LANES]; /* one for each thread */
	counter latency[BUCKETS]; /* see observe */
} *page;

enum state { STARTING, LISTENING, RUNNING };

static struct {
	struct sockaddr_storage to;
	socklen_t to_len;
	struct in6_addr bind; /* of a server: what clients connect to, so that answers come from it */
	const char *addr;
	int port, streams, size, gso, flows, conns;
	long rate;
	bool down;
} opt = {.streams = 1, .size = 64, .flows = 1, .conns = 1};

static void die(const char *what, ...)
{
	int err = errno;
	va_list args;
	va_start(args, what);
	vfprintf(stderr, what, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(1);
}

static void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* observe counts a duration: 32 buckets for each power of two. */
static void observe(uint64_t ns)
{
	unsigned i = ns;
	if (ns >= 32) {
		int e = 63 - __builtin_clzll(ns);
		i = (e - 4) * 32 + ((ns >> (e - 5)) & 31);
	}
	add(&page->latency[i < BUCKETS ? i : BUCKETS - 1], 1);
}

static void set_int(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof value))
		die("%s", what);
}

static void buffers(int fd)
{
	int n = 4 << 20;
	/* Root may have more than the limit for all; others get what they get. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &n, sizeof n))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
}

static int serve(int type)
{
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(opt.port), .sin6_addr = opt.bind};
	if (bind(fd, (struct sockaddr *)&a, sizeof a))
		die("bind to port %d", opt.port);
	if (type == SOCK_DGRAM)
		buffers(fd);
	else if (listen(fd, 4096))
		die("listen");
	return fd;
}

static int dial(int type)
{
	int fd = socket(opt.to.ss_family, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&opt.to, opt.to_len))
		die("connect to %s port %d", opt.addr, opt.port);
	if (type == SOCK_DGRAM)
		buffers(fd);
	return fd;
}

static int accepted(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != EINTR && errno != ECONNABORTED)
			die("accept");
	}
}

static void patience(int fd, long ms)
{
	struct timeval t = {ms / 1000, ms % 1000 * 1000};
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t))
		die("SO_RCVTIMEO");
}

/* ---- streams: TCP connections that are always full ---- */

struct stream {
	int fd;
	struct lane *lane;
};

static void *run_stream(void *arg)
{
	struct stream s = *(struct stream *)arg;
	static const size_t block = 128 << 10;
	char *buf = calloc(1, block);
	for (;;) {
		ssize_t n = s.lane ? read(s.fd, buf, block) : write(s.fd, buf, block);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("stream ended");
		if (s.lane)
			add(&s.lane->bytes, n);
	}
	return NULL;
}

static void streams(bool client)
{
	static struct stream all[LANES];
	pthread_t thread;
	int listener = client ? -1 : serve(SOCK_STREAM);
	page->state = LISTENING;
	for (int i = 0; i < opt.streams; i++) {
		all[i].fd = client ? dial(SOCK_STREAM) : accepted(listener);
		if (client == opt.down)
			all[i].lane = &page->lanes[i];
		if (pthread_create(&thread, NULL, run_stream, &all[i]))
			die("thread");
	}
	page->state = RUNNING;
	pthread_join(thread, NULL);
}

/* ---- datagrams: UDP, as many as can be sent or a fixed number per second ---- */

/* send_one sends a datagram, or with gso a burst of them as QUIC does. */
static void send_one(int fd, const char *buf)
{
	static bool unsegmented; /* the kernel cannot: as programs do then, one by one */
	struct lane *l = &page->lanes[0];
	if (opt.gso && !unsegmented) {
		union {
			char bytes[CMSG_SPACE(sizeof(uint16_t))];
			struct cmsghdr align;
		} control = {0};
		struct iovec iov = {(void *)buf, opt.size};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_UDP;
		c->cmsg_type = UDP_SEGMENT;
		c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
		*(uint16_t *)CMSG_DATA(c) = opt.gso;
		int count = (opt.size + opt.gso - 1) / opt.gso;
		if (sendmsg(fd, &m, 0) >= 0) {
			add(&l->sent, count);
			return;
		}
		if (errno != EIO && errno != EINVAL) {
			add(&l->refused, count);
			return;
		}
		unsegmented = true;
	}
	int unit = opt.gso ? opt.gso : opt.size;
	for (int at = 0; at < opt.size; at += unit) {
		int n = opt.size - at < unit ? opt.size - at : unit;
		if (send(fd, buf + at, n, 0) >= 0) {
			add(&l->sent, 1);
			continue;
		}
		/* Full queues are losses; a refused port is an answer to an earlier one. */
		if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED && errno != EINTR)
			die("send");
		add(&l->refused, 1);
	}
}

static void flood(const int *fds, int n)
{
	char *buf = calloc(1, opt.size);
	page->state = RUNNING;
	if (!opt.rate)
		for (int i = 0;; i = i + 1 < n ? i + 1 : 0)
			send_one(fds[i], buf);
	/* Every millisecond its share: the clock of most programs that pace. */
	const uint64_t tick = 1000000;
	uint64_t start = now(), done = 0;
	for (int i = 0;;) {
		uint64_t due = (now() - start) / tick * opt.rate / 1000;
		if (due > done + opt.rate / 50) /* held up for 20 ms and more: not all at once */
			done = due - opt.rate / 50;
		for (; done < due; done++, i = i + 1 < n ? i + 1 : 0)
			send_one(fds[i], buf);
		uint64_t next = start + ((now() - start) / tick + 1) * tick;
		struct timespec t = {next / 1000000000, next % 1000000000};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
}

static void count_arrivals(int fd)
{
	enum { BATCH = 64 };
	struct lane *l = &page->lanes[0];
	size_t room = opt.gso ? 65536 : opt.size + 1;
	int batch = opt.gso ? 8 : BATCH;
	char *mem = malloc(room * batch);
	struct iovec iov[BATCH];
	struct mmsghdr m[BATCH];
	memset(m, 0, sizeof m);
	for (int i = 0; i < batch; i++) {
		iov[i] = (struct iovec){mem + i * room, room};
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	if (opt.gso)
		set_int(fd, SOL_UDP, UDP_GRO, 1, "UDP_GRO");
	patience(fd, 1000);
	for (;;) {
		int n = recvmmsg(fd, m, batch, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++) {
			unsigned unit = opt.gso ? (unsigned)opt.gso : m[i].msg_len ? m[i].msg_len : 1;
			add(&l->units, (m[i].msg_len + unit - 1) / unit);
			add(&l->bytes, m[i].msg_len);
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
			die("receive");
	}
}

static void datagrams(bool client)
{
	char hello = 0;
	if (!client) {
		int fd = serve(SOCK_DGRAM);
		page->state = LISTENING;
		if (!opt.down)
			count_arrivals(fd);
		struct sockaddr_in6 from;
		socklen_t len = sizeof from;
		if (recvfrom(fd, &hello, 1, 0, (struct sockaddr *)&from, &len) < 0)
			die("receive");
		if (connect(fd, (struct sockaddr *)&from, len))
			die("connect");
		flood(&fd, 1);
	}
	int *fds = calloc(opt.flows, sizeof *fds);
	for (int i = 0; i < opt.flows; i++)
		fds[i] = dial(SOCK_DGRAM);
	if (!opt.down)
		flood(fds, opt.flows);
	patience(fds[0], 100);
	for (int i = 0; i < 50; i++) {
		if (send(fds[0], &hello, 1, 0) < 0 && errno != ECONNREFUSED)
			die("send");
		if (recv(fds[0], &hello, 1, MSG_TRUNC) >= 0) {
			page->state = RUNNING;
			count_arrivals(fds[0]);
		}
	}
	errno = ETIMEDOUT;
	die("no datagram came back");
}

/* ---- round trips: a byte there and back, one after the other ---- */

static void round_trips(bool client, int type)
{
	char byte = 0;
	struct lane *l = &page->lanes[0];
	if (!client && type == SOCK_DGRAM) {
		int fd = serve(type);
		page->state = LISTENING;
		for (;;) {
			struct sockaddr_in6 from;
			socklen_t len = sizeof from;
			if (recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &len) >= 0)
				sendto(fd, &byte, 1, 0, (struct sockaddr *)&from, len);
		}
	}
	int fd;
	if (client) {
		fd = dial(type);
	} else {
		int listener = serve(type);
		page->state = LISTENING;
		fd = accepted(listener);
	}
	if (type == SOCK_STREAM)
		set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
	else
		patience(fd, 200);
	page->state = RUNNING;
	while (!client) {
		if (read(fd, &byte, 1) <= 0 || write(fd, &byte, 1) < 0)
			die("connection ended");
	}
	for (;;) {
		uint64_t start = now();
		if (write(fd, &byte, 1) < 0 && errno != ECONNREFUSED)
			die("send");
		ssize_t n = read(fd, &byte, 1);
		if (n == 1) {
			observe(now() - start);
			add(&l->units, 1);
		} else if (type == SOCK_DGRAM && n < 0 && (errno == EAGAIN || errno == ECONNREFUSED)) {
			add(&l->refused, 1);
		} else {
			die("connection ended");
		}
	}
}

/* ---- connections: made and reset, one after the other ---- */

static void connections(bool client)
{
	if (!client) {
		int listener = serve(SOCK_STREAM);
		page->state = LISTENING;
		for (;;)
			close(accepted(listener));
	}
	struct linger reset = {1, 0}; /* or waiting ones would use up the ports */
	for (;;) {
		uint64_t start = now();
		int fd = dial(SOCK_STREAM);
		observe(now() - start);
		add(&page->lanes[0].units, 1);
		page->state = RUNNING;
		if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset))
			die("SO_LINGER");
		close(fd);
	}
}

/* ---- many: connections at the same time, each with a message on its way ---- */

static void many(bool client)
{
	enum { EVENTS = 256 };
	char message[64] = {0}, buf[4096];
	struct epoll_event events[EVENTS];
	int poll = epoll_create1(EPOLL_CLOEXEC);
	int top = opt.conns + 64;
	uint64_t *asked = calloc(top, sizeof *asked);
	int listener = -1;
	if (client) {
		int *fds = calloc(opt.conns, sizeof *fds);
		uint64_t start = now();
		for (int i = 0; i < opt.conns; i++) {
			int fd = fds[i] = dial(SOCK_STREAM);
			struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
			set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
			if (fd >= top || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e))
				die("connection %d", i);
		}
		page->opened_ns = now() - start;
		page->state = RUNNING;
		for (int i = 0; i < opt.conns; i++) {
			asked[fds[i]] = now();
			if (send(fds[i], message, sizeof message, MSG_NOSIGNAL) < 0)
				die("connection %d", i);
		}
	} else {
		listener = serve(SOCK_STREAM);
		struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
		if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e))
			die("listener");
		page->state = LISTENING;
	}
	for (;;) {
		int n = epoll_wait(poll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				fd = accepted(listener);
				struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
				set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
				if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e))
					die("connection");
				continue;
			}
			ssize_t got = read(fd, buf, sizeof buf);
			if (got <= 0)
				die("connection ended");
			if (client) {
				observe(now() - asked[fd]);
				add(&page->lanes[0].units, 1);
				add(&page->lanes[0].bytes, got);
				asked[fd] = now();
				got = sizeof message;
			}
			if (write(fd, client ? message : buf, got) < 0)
				die("connection ended");
		}
	}
}

int main(int argc, char **argv)
{
	alarm(120); /* whatever happens to the harness, this ends */
	if (argc < 3) {
		fprintf(stderr, "usage: load client|server KIND [key=value]...\n");
		return 2;
	}
	page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
	if (page == MAP_FAILED)
		die("shared memory");
	for (int i = 3; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value)
			continue;
		*value++ = 0;
		const char *key = argv[i];
		if (!strcmp(key, "addr"))
			opt.addr = value;
		else if (!strcmp(key, "bind"))
			inet_pton(AF_INET6, value, &opt.bind);
		else if (!strcmp(key, "port"))
			opt.port = atoi(value);
		else if (!strcmp(key, "streams"))
			opt.streams = atoi(value);
		else if (!strcmp(key, "size"))
			opt.size = atoi(value);
		else if (!strcmp(key, "gso"))
			opt.gso = atoi(value);
		else if (!strcmp(key, "flows"))
			opt.flows = atoi(value);
		else if (!strcmp(key, "conns"))
			opt.conns = atoi(value);
		else if (!strcmp(key, "rate"))
			opt.rate = atol(value);
		else if (!strcmp(key, "down"))
			opt.down = atoi(value);
	}
	struct rlimit files = {65536, 65536};
	setrlimit(RLIMIT_NOFILE, &files);
	if (opt.addr) {
		struct sockaddr_in *a4 = (void *)&opt.to;
		struct sockaddr_in6 *a6 = (void *)&opt.to;
		if (inet_pton(AF_INET, opt.addr, &a4->sin_addr) == 1) {
			a4->sin_family = AF_INET;
			a4->sin_port = htons(opt.port);
			opt.to_len = sizeof *a4;
		} else if (inet_pton(AF_INET6, opt.addr, &a6->sin6_addr) == 1) {
			a6->sin6_family = AF_INET6;
			a6->sin6_port = htons(opt.port);
			opt.to_len = sizeof *a6;
		} else {
			errno = EINVAL;
			die("address %s", opt.addr);
		}
	}
	if (opt.streams > LANES || opt.size > 65507) {
		errno = EINVAL;
		die("streams or size");
	}
	bool client = !strcmp(argv[1], "client");
	const char *kind = argv[2];
	if (!strcmp(kind, "stream"))
		streams(client);
	else if (!strcmp(kind, "datagram"))
		datagrams(client);
	else if (!strcmp(kind, "round-trip-tcp"))
		round_trips(client, SOCK_STREAM);
	else if (!strcmp(kind, "round-trip-udp"))
		round_trips(client, SOCK_DGRAM);
	else if (!strcmp(kind, "connect"))
		connections(client);
	else if (!strcmp(kind, "many"))
		many(client);
	fprintf(stderr, "load: unknown kind %s\n", kind);
	return 2;
}
