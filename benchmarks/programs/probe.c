/*
 * probe is an IPv4-only program as people have them, in one file: it knows
 * nothing of IPv6, NAT64 or shims. It is built three times: linked dynamically,
 * linked statically, and setuid. Exit status 0 and "ok ..." mean that it works.
 *
 *	probe tcp|peer|nonblocking|uring ADDRESS PORT   fetch / by HTTP
 *	probe udp ADDRESS PORT                          a datagram to an echo server and back
 *	probe listen PORT                               serve one connection
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int ipv4(int type)
{
	int fd = socket(AF_INET, type, 0);
	if (fd < 0)
		die("socket");
	return fd;
}

/* fetch asks for / and prints the first line that is not of the header. */
static void fetch(int fd)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	char page[4096];
	size_t n = 0;
	ssize_t got;
	if (write(fd, request, sizeof request - 1) < 0)
		die("write");
	while (n < sizeof page - 1 && (got = read(fd, page + n, sizeof page - 1 - n)) != 0) {
		if (got < 0)
			die("read");
		n += got;
	}
	page[n] = 0;
	char *body = strstr(page, "\r\n\r\n");
	if (!body) {
		fprintf(stderr, "no page came\n");
		exit(1);
	}
	printf("ok, uid %d: %s", (int)geteuid(), body + 4);
}

/* uring_connect connects by a submission queue instead of connect(2). */
static int uring_connect(int fd, struct sockaddr_in *to)
{
	struct io_uring_params p = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &p);
	if (ring < 0)
		die("io_uring_setup");
	char *sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *sqe = mmap(NULL, p.sq_entries * sizeof *sqe, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		die("io_uring mmap");
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = IORING_OP_CONNECT;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)to;
	sqe->off = sizeof *to; /* the length of the address is there */
	((uint32_t *)(sq + p.sq_off.array))[0] = 0;
	__atomic_store_n((uint32_t *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		die("io_uring_enter");
	uint32_t head = __atomic_load_n((uint32_t *)(cq + p.cq_off.head), __ATOMIC_ACQUIRE);
	errno = -((struct io_uring_cqe *)(cq + p.cq_off.cqes))[head & (p.cq_entries - 1)].res;
	return errno ? -1 : 0;
}

static int nonblocking_connect(int fd, struct sockaddr_in *to)
{
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (connect(fd, (struct sockaddr *)to, sizeof *to) && errno != EINPROGRESS)
		return -1;
	struct pollfd p = {fd, POLLOUT, 0};
	if (poll(&p, 1, 3000) != 1) {
		errno = ETIMEDOUT;
		return -1;
	}
	int err = 0;
	socklen_t len = sizeof err;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
		return -1;
	fcntl(fd, F_SETFL, flags);
	errno = err;
	return err ? -1 : 0;
}

int main(int argc, char **argv)
{
	alarm(5);
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct timeval patience = {3, 0};
	if (argc == 3 && !strcmp(argv[1], "listen")) {
		int fd = ipv4(SOCK_STREAM), on = 1;
		a.sin_port = htons(atoi(argv[2]));
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1))
			die("listen");
		puts("listening");
		fflush(stdout);
		int conn = accept(fd, NULL, NULL);
		if (conn < 0 || write(conn, "welcome\n", 8) != 8)
			die("accept");
		puts("ok, somebody came");
		return 0;
	}
	if (argc != 4)
		return 2;
	if (inet_pton(AF_INET, argv[2], &a.sin_addr) != 1)
		return 2;
	a.sin_port = htons(atoi(argv[3]));
	if (!strcmp(argv[1], "udp")) {
		char b[16];
		int fd = ipv4(SOCK_DGRAM);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (sendto(fd, "hello", 5, 0, (struct sockaddr *)&a, sizeof a) != 5)
			die("sendto");
		if (recv(fd, b, sizeof b, 0) != 5 || memcmp(b, "hello", 5))
			die("recv");
		puts("ok, echoed");
		return 0;
	}
	int fd = ipv4(SOCK_STREAM);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	int failed;
	if (!strcmp(argv[1], "uring"))
		failed = uring_connect(fd, &a);
	else if (!strcmp(argv[1], "nonblocking"))
		failed = nonblocking_connect(fd, &a);
	else
		failed = connect(fd, (struct sockaddr *)&a, sizeof a);
	if (failed)
		die("connect");
	if (!strcmp(argv[1], "peer")) {
		struct sockaddr_in peer;
		socklen_t len = sizeof peer;
		char text[INET_ADDRSTRLEN];
		if (getpeername(fd, (struct sockaddr *)&peer, &len))
			die("getpeername");
		if (peer.sin_family != AF_INET) {
			fprintf(stderr, "getpeername: address family %d, not IPv4\n", peer.sin_family);
			return 1;
		}
		printf("ok, %s port %d\n", inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text), ntohs(peer.sin_port));
		return peer.sin_addr.s_addr != a.sin_addr.s_addr || peer.sin_port != a.sin_port;
	}
	fetch(fd);
	return 0;
}
