// Sockets of TCP and UDP in every state: what calls give, and what poll sees. Options that programs set on all of them.
#include "t.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#define SA(a) ((struct sockaddr *)&(a)), sizeof(a)
static char buf[70000];

static int ready(int s, int events, int ms) {
	struct pollfd p = {s, events, 0};
	poll(&p, 1, ms);
	return p.revents;
}
static struct sockaddr_in lo(int s) {
	struct sockaddr_in a = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}}, b;
	socklen_t l = sizeof b;
	if (s >= 0 && !getsockname(s, (void *)&b, &l))
		a.sin_port = b.sin_port;
	return a;
}
static int listener(void) {
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = lo(-1);
	MUST(bind(s, SA(a)));
	MUST(listen(s, 5));
	return s;
}
static void connected(int v[2]) {
	int l = listener();
	v[0] = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = lo(l);
	MUST(connect(v[0], SA(a)));
	v[1] = MUST(accept(l, 0, 0));
	close(l);
}
static void state(const char *w, int s) {
	struct sockaddr_storage a;
	socklen_t l = sizeof a;
	int n;
	P("%s: poll %#x\n", w, ready(s, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND, 0));
	L(w, getpeername(s, (void *)&a, &l));
	L(w, recv(s, buf, 10, MSG_DONTWAIT));
	L(w, recv(s, buf, 1, MSG_DONTWAIT | MSG_OOB));
	L(w, send(s, "x", 0, MSG_DONTWAIT | MSG_NOSIGNAL));
	L(w, ioctl(s, FIONREAD, &n));
	L(w, ioctl(s, 0x8905, &n)); // SIOCATMARK
	n = 0, l = 4;
	getsockopt(s, SOL_SOCKET, SO_ERROR, &n, &l);
	P("%s: SO_ERROR %d\n", w, n);
}
static void opt(int s, int level, int name, int v) {
	socklen_t l = 4;
	int r = setsockopt(s, level, name, &v, 4), e = errno, got = 0, g = getsockopt(s, level, name, &got, &l);
	P("option %d %d = %d: %s, %s %d\n", level, name, v, r ? ename(e) : "ok", g ? ename(errno) : "ok", got);
}

int main() {
	int v[2], s, o, n;
	struct sockaddr_in a;
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		P("new %d\n", type);
		s = socket(AF_INET, type, 0);
		state("new", s);
		struct sockaddr_in6 six = {AF_INET6};
		T(bind(s, SA(six)));
		T(bind(s, (void *)&six, 16));
		a = lo(-1);
		T(bind(s, SA(a)));
		state("bound", s);
		if (type == SOCK_DGRAM) {
			T(shutdown(s, SHUT_WR));
			T(send(s, "x", 1, MSG_NOSIGNAL));
			T(sendto(s, "x", 1, 0, (void *)&six, 16));
		}
		T(setsockopt(s, SOL_SOCKET, SO_TYPE, &n, 3));
		T(setsockopt(s, SOL_SOCKET, SO_TYPE, &n, 4));
		opt(s, SOL_SOCKET, SO_BSDCOMPAT, 1);
		opt(s, SOL_SOCKET, SO_BUSY_POLL, -1);
		opt(s, SOL_SOCKET, SO_BINDTOIFINDEX, -1);
		opt(s, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
		opt(s, SOL_SOCKET, SO_LOCK_FILTER, 1);
		opt(s, SOL_SOCKET, SO_LOCK_FILTER, 0);
		opt(s, IPPROTO_IP, IP_RECVOPTS, 77);
		opt(s, IPPROTO_IP, IP_MINTTL, 256);
		opt(s, IPPROTO_IP, IP_MINTTL, 255);
		socklen_t l = 8;
		unsigned long rate = 1;
		T(getsockopt(s, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &l));
		P("%lx\n", rate);
		struct linger lg[] = {{1, 5}, {0, 7}};
		for (int i = 0; i < 2; i++)
			T(setsockopt(s, SOL_SOCKET, SO_LINGER, &lg[i], sizeof lg[i]));
		l = sizeof lg[0];
		T(getsockopt(s, SOL_SOCKET, SO_LINGER, &lg[0], &l));
		P("%d %d\n", lg[0].l_onoff, lg[0].l_linger);
		l = 4;
		T(getsockopt(s, IPPROTO_IP, IP_MTU_DISCOVER, &n, &l));
		P("%d\n", n);
		opt(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
		n = getpid();
		T(ioctl(s, 0x8902, &n)); // SIOCSPGRP
		P("%d %d\n", fcntl(s, F_GETOWN) == n, ioctl(s, 0x8903, &o) == 0 && o == n);
		n = 999999;
		T(ioctl(s, 0x8901, &n)); // FIOSETOWN
		T(ioctl(s, 0x8904, (void *)8));
		close(s);
	}
	s = listener();
	fcntl(s, F_SETFL, O_NONBLOCK);
	state("listen", s);
	T(shutdown(s, SHUT_RD));
	P("%x\n", ready(s, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM, 0));
	T(accept(s, 0, 0));
	T(listen(s, 1));
	a = lo(s);
	o = socket(AF_INET, SOCK_STREAM, 0);
	T(connect(o, SA(a)));
	P("%d\n", ready(s, POLLIN, 5000));
	close(o);
	close(s);

	connected(v);
	state("connected", v[0]);
	T(shutdown(v[1], SHUT_WR));
	ready(v[0], POLLIN, 5000);
	state("end seen", v[0]);
	state("end sent", v[1]);
	T(shutdown(v[0], SHUT_WR));
	ready(v[1], POLLIN, 5000);
	msleep(50);
	state("both ends", v[0]);
	state("both ends", v[1]);
	close(v[0]), close(v[1]);
	connected(v);
	T(setsockopt(v[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
	close(v[1]);
	ready(v[0], POLLIN, 5000);
	T(recv(v[0], buf, 9, 0));
	state("reset", v[0]);
	close(v[0]);

	P("datagrams in pieces\n");
	s = socket(AF_INET, SOCK_DGRAM, 0);
	a = lo(-1);
	T(bind(s, SA(a)));
	a = lo(s);
	o = socket(AF_INET, SOCK_DGRAM, 0);
	T(sendto(o, "ab", 2, MSG_MORE, SA(a)));
	P("%d\n", ready(s, POLLIN, 20));
	T(sendto(o, "cde", 3, MSG_MORE, SA(a)));
	T(sendto(o, "f", 1, 0, SA(a)));
	P("%x\n", ready(s, POLLIN, 5000));
	T(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	P("%.6s\n", buf);
	T(connect(o, SA(a)));
	n = 1;
	T(setsockopt(o, IPPROTO_UDP, UDP_CORK, &n, 4));
	socklen_t l = 4;
	T(getsockopt(o, IPPROTO_UDP, UDP_CORK, &n, &l));
	P("%d\n", n);
	T(write(o, "12", 2));
	T(write(o, "34", 2));
	P("%d\n", ready(s, POLLIN, 20));
	n = 0;
	T(setsockopt(o, IPPROTO_UDP, UDP_CORK, &n, 4));
	P("%x\n", ready(s, POLLIN, 5000));
	T(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	P("%.4s\n", buf);
	T(send(o, buf, 40000, MSG_MORE));
	T(send(o, buf, 40000, 0));
	T(send(o, "x", 1, 0));
	P("%x\n", ready(s, POLLIN, 5000));
	T(recv(s, buf, sizeof buf, MSG_DONTWAIT));
	T(recv(s, buf, sizeof buf, MSG_DONTWAIT));
}
