/* calls: system calls of programs that reach IPv4, one behaviour per name.
   calls NAME ADDRESS [PORT]: prints what it saw, exits 0 if that is right. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <net/if.h>
#include <unistd.h>

static struct sockaddr_in to;

static void die(const char *what) { printf("%s: %s\n", what, strerror(errno)); exit(1); }
static void expect(int ok, const char *what) { if (!ok) die(what); }
static int tcp(int flags) { int fd = socket(AF_INET, SOCK_STREAM | flags, 0); expect(fd >= 0, "socket"); return fd; }
static int udp(void) { int fd = socket(AF_INET, SOCK_DGRAM, 0); expect(fd >= 0, "socket"); return fd; }
static int dial(int fd) { return connect(fd, (struct sockaddr *)&to, sizeof to); }

/* echo sends a byte and gets it back (port 7). */
static void echo(int fd)
{
	char c = 'x';
	expect(write(fd, &c, 1) == 1, "write");
	expect(read(fd, &c, 1) == 1 && c == 'x', "read");
}

static void names(void)
{
	struct sockaddr_storage ss;
	struct sockaddr_in *in = (void *)&ss;
	socklen_t len = sizeof ss;
	int fd = tcp(0), v;
	expect(!dial(fd), "connect");
	expect(!getpeername(fd, (void *)&ss, &len), "getpeername");
	errno = 0;
	expect(len == sizeof *in && in->sin_family == AF_INET && in->sin_port == to.sin_port && in->sin_addr.s_addr == to.sin_addr.s_addr, "peer");
	len = sizeof ss;
	expect(!getsockname(fd, (void *)&ss, &len), "getsockname");
	expect(len == sizeof *in && in->sin_family == AF_INET && in->sin_port, "own name");
	len = 7; /* a short buffer gets what fits, and the length that it is */
	memset(&ss, 0xee, sizeof ss);
	expect(!getpeername(fd, (void *)&ss, &len) && len == sizeof *in, "short getpeername");
	expect(((unsigned char *)&ss)[7] == 0xee && ((unsigned char *)&ss)[6] != 0xee, "short name");
	len = -1;
	expect(getpeername(fd, (void *)&ss, &len) == -1 && errno == EINVAL, "negative length");
	len = sizeof ss;
	expect(getpeername(fd, (void *)1, &len) == -1 && errno == EFAULT, "bad address");
	len = sizeof v;
	expect(!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len) && v == AF_INET && len == sizeof v, "SO_DOMAIN");
	echo(fd);
}

static void epoll_before(void)
{
	int fd = tcp(SOCK_NONBLOCK), ep = epoll_create1(0), copy;
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788}, got;
	copy = dup(ep);
	close(ep);
	expect(!epoll_ctl(copy, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	expect(epoll_wait(copy, &got, 1, 0) <= 1, "epoll_wait");
	expect(dial(fd) == -1 && errno == EINPROGRESS, "connect");
	expect(epoll_wait(copy, &got, 1, 5000) == 1, "no event");
	expect(got.data.u64 == 0x1122334455667788 && got.events & EPOLLOUT, "wrong event");
	int e; socklen_t len = sizeof e;
	expect(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) && !e, "SO_ERROR");
	ev.events = EPOLLIN;
	expect(!epoll_ctl(copy, EPOLL_CTL_MOD, fd, &ev), "epoll_ctl MOD");
	expect(write(fd, "x", 1) == 1, "write");
	expect(epoll_wait(copy, &got, 1, 5000) == 1 && got.events & EPOLLIN, "no input");
	expect(!epoll_ctl(copy, EPOLL_CTL_DEL, fd, 0), "epoll_ctl DEL");
}

static void nonblocking(void)
{
	int fd = tcp(SOCK_NONBLOCK), e;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	expect(dial(fd) == -1 && errno == EINPROGRESS, "connect");
	int again = dial(fd);
	expect(!again || errno == EALREADY || errno == EISCONN, "second connect");
	expect(poll(&p, 1, 5000) == 1, "poll");
	socklen_t len = sizeof e;
	expect(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) && !e, "SO_ERROR");
	again = dial(fd);
	expect(!again || errno == EISCONN, "third connect");
	expect(fcntl(fd, F_GETFL) & O_NONBLOCK, "O_NONBLOCK is lost");
	fcntl(fd, F_SETFL, 0);
	echo(fd);
}

static void duplicates(void)
{
	int fd = tcp(SOCK_CLOEXEC), two = dup(fd), three = fcntl(fd, F_DUPFD_CLOEXEC, 50);
	expect(!dial(two), "connect");
	echo(fd); echo(two); echo(three);
	expect(fcntl(fd, F_GETFD) == FD_CLOEXEC, "close-on-exec of the first");
	expect(fcntl(two, F_GETFD) == 0, "close-on-exec of the second");
	expect(fcntl(three, F_GETFD) == FD_CLOEXEC, "close-on-exec of the third");
}

static void options(void)
{
	int fd = tcp(0), v = 1;
	struct timeval tv = {7, 0}, got;
	struct linger l = {1, 9}, l2;
	socklen_t len = sizeof v;
	expect(!setsockopt(fd, SOL_TCP, TCP_NODELAY, &v, sizeof v), "TCP_NODELAY");
	expect(!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v), "SO_KEEPALIVE");
	v = 33; expect(!setsockopt(fd, SOL_TCP, TCP_KEEPIDLE, &v, sizeof v), "TCP_KEEPIDLE");
	v = 100000; expect(!setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &v, sizeof v), "SO_RCVBUF");
	v = 0x20; expect(!setsockopt(fd, SOL_IP, IP_TOS, &v, sizeof v), "IP_TOS");
	expect(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), "SO_RCVTIMEO");
	expect(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l), "SO_LINGER");
	expect(!dial(fd), "connect");
	expect(!getsockopt(fd, SOL_TCP, TCP_NODELAY, &v, &len) && v == 1, "TCP_NODELAY is lost");
	expect(!getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, &len) && v == 1, "SO_KEEPALIVE is lost");
	expect(!getsockopt(fd, SOL_TCP, TCP_KEEPIDLE, &v, &len) && v == 33, "TCP_KEEPIDLE is lost");
	expect(!getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &v, &len) && v == 200000, "SO_RCVBUF is lost");
	expect(!getsockopt(fd, SOL_IPV6, IPV6_TCLASS, &v, &len) && v == 0x20, "IP_TOS is lost");
	v = 0x40;
	expect(!setsockopt(fd, SOL_IP, IP_TOS, &v, sizeof v), "IP_TOS afterwards");
	expect(!getsockopt(fd, SOL_IPV6, IPV6_TCLASS, &v, &len) && v == 0x40, "IP_TOS afterwards is lost");
	len = sizeof got;
	expect(!getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len) && got.tv_sec == 7, "SO_RCVTIMEO is lost");
	len = sizeof l2;
	expect(!getsockopt(fd, SOL_SOCKET, SO_LINGER, &l2, &len) && l2.l_onoff && l2.l_linger == 9, "SO_LINGER is lost");
	echo(fd);
}

static void bound_port(void)
{
	int fd = tcp(0), v = 1;
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(40123)}, got;
	socklen_t len = sizeof got;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v);
	expect(!bind(fd, (void *)&own, sizeof own), "bind");
	expect(!dial(fd), "connect");
	expect(!getsockname(fd, (void *)&got, &len) && got.sin_port == own.sin_port, "port is lost");
	echo(fd);
}

static void fast_open(void)
{
	int i, v = 1;
	char b[8];
	for (i = 0; i < 2; i++) { /* the second has a cookie, where the server gives one */
		int fd = tcp(0);
		expect(sendto(fd, "hello", 5, MSG_FASTOPEN, (void *)&to, sizeof to) == 5, "sendto");
		expect(recv(fd, b, 5, MSG_WAITALL) == 5, "recv");
		close(fd);
		fd = tcp(0);
		struct iovec iov[2] = {{"he", 2}, {"llo", 3}};
		struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = iov, .msg_iovlen = 2};
		expect(sendmsg(fd, &m, MSG_FASTOPEN) == 5, "sendmsg");
		expect(recv(fd, b, 5, MSG_WAITALL) == 5 && !memcmp(b, "hello", 5), "recv");
		close(fd);
		fd = tcp(0);
		if (!setsockopt(fd, SOL_TCP, TCP_FASTOPEN_CONNECT, &v, sizeof v)) {
			expect(!dial(fd), "connect");
			echo(fd);
		}
		close(fd);
	}
}

static void refused(void)
{
	int fd = tcp(0);
	expect(dial(fd) == -1 && errno == ECONNREFUSED, "not refused");
	fd = tcp(SOCK_NONBLOCK);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	expect(dial(fd) == -1 && errno == EINPROGRESS, "connect");
	expect(poll(&p, 1, 5000) == 1, "poll");
	int e; socklen_t len = sizeof e;
	expect(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) && e == ECONNREFUSED, "SO_ERROR");
	/* The same socket may try again, once the kernel has said ECONNABORTED. */
	int i;
	for (i = 0; i < 2 && dial(fd) == -1 && errno == ECONNABORTED; i++)
		;
	expect(errno == EINPROGRESS, "connect again");
}

static void udp_refused(void)
{
	int fd = udp(), i;
	char b[10];
	struct timeval tv = {5, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	expect(!dial(fd), "connect");
	for (i = 0; i < 3; i++) {
		expect(send(fd, "x", 1, 0) == 1 || errno == ECONNREFUSED, "send");
		if (recv(fd, b, 10, 0) == -1 && errno == ECONNREFUSED) { errno = 0; return; }
	}
	die("not refused");
}

static void timed_out(void)
{
	int fd = tcp(0);
	struct timeval tv = {1, 0}, a, b;
	expect(!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv), "SO_SNDTIMEO");
	gettimeofday(&a, 0);
	expect(dial(fd) == -1 && (errno == EINPROGRESS || errno == EAGAIN), "no timeout");
	gettimeofday(&b, 0);
	expect(b.tv_sec - a.tv_sec >= 1 || b.tv_usec > a.tv_usec + 900000, "too early");
}

static volatile int rang;
static void ring(int s) { (void)s; rang++; }

/* A signal interrupts connect, without SA_RESTART. */
static void interrupted(void)
{
	struct sigaction sa = {.sa_handler = ring};
	sigaction(SIGALRM, &sa, 0);
	alarm(1);
	expect(dial(tcp(0)) == -1 && errno == EINTR && rang, "not interrupted");
}

/* Signals with SA_RESTART, very often: connect goes on. */
static void storm(void)
{
	struct sigaction sa = {.sa_handler = ring, .sa_flags = SA_RESTART};
	struct itimerval it = {{0, 300}, {0, 300}};
	int i;
	sigaction(SIGALRM, &sa, 0);
	setitimer(ITIMER_REAL, &it, 0);
	for (i = 0; i < 200; i++) {
		int fd = tcp(0);
		expect(!dial(fd), "connect");
		echo(fd);
		close(fd);
	}
	printf("%d signals\n", rang);
}

static void mmsg(void)
{
	enum { N = 8 };
	int fd = udp(), i, got = 0;
	char out[N][16], in[N][16];
	struct iovec ov[N], iv[N];
	struct mmsghdr om[N], im[N];
	struct sockaddr_in from[N];
	struct timeval tv = {5, 0};
	memset(om, 0, sizeof om); memset(im, 0, sizeof im);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	for (i = 0; i < N; i++) {
		ov[i] = (struct iovec){out[i], sprintf(out[i], "message %d", i)};
		om[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &ov[i], .msg_iovlen = 1};
		iv[i] = (struct iovec){in[i], 16};
		im[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &iv[i], .msg_iovlen = 1};
	}
	expect(sendmmsg(fd, om, N, 0) == N, "sendmmsg");
	while (got < N) {
		int n = recvmmsg(fd, im + got, N - got, MSG_WAITFORONE, 0);
		expect(n > 0, "recvmmsg");
		got += n;
	}
	errno = 0;
	for (i = 0; i < N; i++)
		expect(from[i].sin_family == AF_INET && from[i].sin_port == to.sin_port && from[i].sin_addr.s_addr == to.sin_addr.s_addr && im[i].msg_len == 9, "from");
}

/* ::ffff:a.b.c.d on AF_INET6 sockets. */
static void mapped(void)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = to.sin_port}, got;
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	socklen_t len = sizeof got;
	char b[10];
	struct timeval tv = {5, 0};
	six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&six.sin6_addr.s6_addr[12], &to.sin_addr, 4);
	expect(!connect(fd, (void *)&six, sizeof six), "connect");
	expect(!getpeername(fd, (void *)&got, &len) && len == sizeof got && IN6_ARE_ADDR_EQUAL(&got.sin6_addr, &six.sin6_addr), "peer");
	echo(fd);
	fd = socket(AF_INET6, SOCK_DGRAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	expect(sendto(fd, "hello", 5, 0, (void *)&six, sizeof six) == 5, "sendto");
	len = sizeof got;
	expect(recvfrom(fd, b, 10, 0, (void *)&got, &len) == 5 && IN6_ARE_ADDR_EQUAL(&got.sin6_addr, &six.sin6_addr), "recvfrom");
	fd = socket(AF_INET6, SOCK_DGRAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	expect(!connect(fd, (void *)&six, sizeof six), "connect UDP");
	echo(fd);
}

static void uring(void)
{
	char params[120] = {0};
	expect(syscall(425, 8, params) == -1 && errno == ENOSYS, "io_uring_setup");
}

/* device: the interfaces of the host are shown, and a socket can be bound to one. */
static void device(void)
{
	struct ifreq r = {.ifr_name = "wlan0"};
	int fd = udp();
	expect(!ioctl(fd, SIOCGIFINDEX, &r) && r.ifr_ifindex > 0, "SIOCGIFINDEX");
	expect(!setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "wlan0", 6), "SO_BINDTODEVICE");
	struct sockaddr_in any = {.sin_family = AF_INET};
	expect(!bind(fd, (void *)&any, sizeof any), "bind");
	fd = tcp(0);
	expect(!setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "wlan0", 6), "SO_BINDTODEVICE");
	expect(!dial(fd), "connect over a device");
	echo(fd);
	fd = tcp(0);
	expect(!setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), "SO_BINDTODEVICE");
	expect(dial(fd) == -1 && errno == ENETUNREACH, "connect over the wrong device");
}

/* landlock: what a process forbids itself, nobody does in its name. */
static void landlock(void)
{
	struct { unsigned long long fs, net; } attr = {0, 2 /* LANDLOCK_ACCESS_NET_CONNECT_TCP */};
	struct { unsigned long long access, port; } rule = {2, ntohs(to.sin_port)};
	int i, fd, ruleset = syscall(444, &attr, sizeof attr, 0);
	if (ruleset < 0) {
		printf("this kernel has no Landlock rules for TCP: %s\n", strerror(errno));
		return;
	}
	expect(!syscall(445, ruleset, 2 /* LANDLOCK_RULE_NET_PORT */, &rule, 0), "landlock_add_rule");
	expect(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	expect(!syscall(446, ruleset, 0), "landlock_restrict_self");
	pid_t child = fork();
	fd = tcp(0);
	expect(!dial(fd), "connect to the permitted port");
	echo(fd);
	to.sin_port = htons(80);
	for (i = 0; i < 2; i++) {
		errno = 0;
		expect(dial(tcp(i ? SOCK_NONBLOCK : 0)) == -1 && errno == EACCES, "connect to another port");
	}
	if (!child)
		exit(0);
	int status;
	expect(waitpid(child, &status, 0) == child && !status, "child");
}

static void *connecting(void *n)
{
	long i;
	for (i = 0; i < (long)n; i++) {
		int fd = tcp(0);
		expect(!dial(fd), "connect in a thread");
		echo(fd);
		close(fd);
	}
	return 0;
}

/* forks while other threads connect. */
static void forks(void)
{
	pthread_t t[4];
	int i, status;
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], 0, connecting, (void *)100);
	for (i = 0; i < 50; i++) {
		pid_t p = fork();
		if (!p) {
			int fd = tcp(0);
			expect(!dial(fd), "connect in a child");
			echo(fd);
			_exit(0);
		}
		expect(p > 0 && waitpid(p, &status, 0) == p && !status, "child");
	}
	for (i = 0; i < 4; i++)
		pthread_join(t[i], 0);
}

/* slow: a call that takes long keeps nobody else. */
static void *waiting(void *at)
{
	struct sockaddr_in dead = {.sin_family = AF_INET, .sin_port = htons(9)};
	struct timeval tv = {300, 0};
	int fd = tcp(0);
	inet_pton(AF_INET, at, &dead.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	connect(fd, (void *)&dead, sizeof dead);
	die("connected to nobody, or gave up");
	return 0;
}

static void slow(void)
{
	pthread_t t;
	int i;
	for (i = 0; i < 20; i++)
		pthread_create(&t, 0, waiting, getenv("DEAD"));
	usleep(200000);
	connecting((void *)100);
}

/* others: what the supervisor must leave as it is. */
static void others(void)
{
	int two[2], fd = socket(AF_INET6, SOCK_DGRAM, 0), ls = socket(AF_INET, SOCK_STREAM, 0), c;
	struct sockaddr_in any = {.sin_family = AF_INET}, got;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	socklen_t len = sizeof got;
	char b[4];
	expect(!socketpair(AF_UNIX, SOCK_STREAM, 0, two), "socketpair");
	expect(write(two[0], "x", 1) == 1 && read(two[1], b, 4) == 1, "unix");
	expect(!bind(fd, (void *)&six, sizeof six), "bind");
	any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	expect(!bind(ls, (void *)&any, sizeof any) && !listen(ls, 5) && !getsockname(ls, (void *)&got, &len), "listen");
	c = socket(AF_INET, SOCK_STREAM, 0);
	expect(!connect(c, (void *)&got, sizeof got), "connect to loopback");
	len = sizeof got;
	int a = accept(ls, (void *)&got, &len);
	expect(a >= 0 && got.sin_family == AF_INET && got.sin_addr.s_addr == any.sin_addr.s_addr, "accept");
	/* A connected datagram socket can be disconnected and used for others. */
	int u = udp();
	struct sockaddr unspec = {.sa_family = AF_UNSPEC};
	struct timeval tv = {5, 0};
	setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	expect(!dial(u), "connect UDP");
	echo(u);
	expect(!connect(u, &unspec, sizeof unspec), "disconnect");
	expect(sendto(u, "hi", 2, 0, (void *)&to, sizeof to) == 2, "sendto");
	len = sizeof got;
	expect(recvfrom(u, b, 4, 0, (void *)&got, &len) == 2 && got.sin_addr.s_addr == to.sin_addr.s_addr, "recvfrom");
	/* The source of what a connected socket receives is IPv4 as well: glibc's
	   resolver and QUIC compare it. */
	expect(!dial(u), "connect UDP again");
	expect(send(u, "hi", 2, 0) == 2, "send");
	len = sizeof got;
	memset(&got, 0, sizeof got);
	expect(recvfrom(u, b, 4, 0, (void *)&got, &len) == 2 && got.sin_family == AF_INET && got.sin_addr.s_addr == to.sin_addr.s_addr, "source");
}

static void many(void)
{
	int i;
	for (i = 0; i < 10000; i++) {
		int fd = tcp(0);
		struct linger l = {1, 0}; /* no TIME_WAIT: there are fewer ports */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
		expect(!dial(fd), "connect");
		close(fd);
	}
}

/* A process that nobody may look into keeps IPv4 sockets. */
static void closed(void)
{
	expect(!prctl(PR_SET_DUMPABLE, 0), "prctl");
	int fd = tcp(0);
	expect(dial(fd) == -1 && errno == ENETUNREACH, "connect");
	expect(write(udp(), "x", 1) == -1 && errno == EDESTADDRREQ, "write");
}

/* A daemon that outlives the command goes on to reach IPv4. */
static void daemonize(void)
{
	if (!fork()) {
		int null = open("/dev/null", O_RDWR), i;
		for (i = 0; i < 3; i++)
			dup2(null, i);
		setsid();
		if (fork()) _exit(0);
		sleep(1);
		int fd = tcp(0);
		if (!dial(fd)) {
			FILE *f = fopen(getenv("WITNESS"), "w");
			if (f) { fputs("reached\n", f); fclose(f); }
		}
		_exit(0);
	}
}

/* wild: arguments that make no sense get the kernel's errors. */
static void wild(void)
{
	int fd = tcp(0);
	expect(connect(fd, (void *)8, sizeof to) == -1 && errno == EFAULT, "bad address");
	expect(connect(-1, (void *)&to, sizeof to) == -1 && errno == EBADF, "no descriptor");
	expect(connect(0x7fffffff, (void *)&to, sizeof to) == -1 && errno == EBADF, "no such descriptor");
	expect(connect(fd, (void *)&to, 3) == -1 && errno == EINVAL, "short");
	expect(connect(fd, (void *)&to, -1) == -1 && errno == EINVAL, "negative");
	expect(connect(open("/dev/null", O_RDONLY), (void *)&to, sizeof to) == -1 && errno == ENOTSOCK, "no socket");
	expect(sendto(udp(), (void *)8, 100, 0, (void *)&to, sizeof to) == -1 && errno == EFAULT, "bad data");
	expect(sendto(tcp(0), (void *)8, 100, MSG_FASTOPEN, (void *)&to, sizeof to) == -1 && errno == EFAULT, "bad fast open");
	expect(syscall(SYS_sendmsg, fd, 8, MSG_FASTOPEN) == -1 && errno == EFAULT, "bad message");
	expect(socket(AF_INET, SOCK_DGRAM | 0x40, 0) == -1 && errno == EINVAL, "bad type");
	expect(socket(AF_INET, SOCK_DGRAM, 200) == -1, "bad protocol");
	errno = 0;
	expect(dup2(fd, fd) == fd, "dup2");
	expect(!dial(fd), "connect");
	echo(fd);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*f)(void); } all[] = {
		{"names", names}, {"epoll", epoll_before}, {"nonblocking", nonblocking}, {"dup", duplicates}, {"options", options},
		{"bound-port", bound_port}, {"fast-open", fast_open}, {"refused", refused}, {"udp-refused", udp_refused},
		{"timed-out", timed_out}, {"interrupted", interrupted}, {"storm", storm}, {"mmsg", mmsg}, {"mapped", mapped},
		{"io_uring", uring}, {"device", device}, {"forks", forks}, {"many", many}, {"daemon", daemonize}, {"wild", wild}, {"slow", slow}, {"others", others}, {"closed", closed}, {"landlock", landlock},
	};
	unsigned i;
	if (argc < 3)
		return 2;
	to.sin_family = AF_INET;
	to.sin_port = htons(argc > 3 ? atoi(argv[3]) : 7);
	inet_pton(AF_INET, argv[2], &to.sin_addr);
	for (i = 0; i < sizeof all / sizeof all[0]; i++)
		if (!strcmp(all[i].name, argv[1])) {
			all[i].f();
			printf("%s right\n", argv[1]);
			return 0;
		}
	return 2;
}
