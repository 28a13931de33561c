// TCP over loopback: connecting, data, shutdown, reset, flags, readiness, errors.
#include "t.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
static char b[1 << 20];
static struct sockaddr_in A(int port) { struct sockaddr_in a = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}}; return a; }
static int port(int s) { struct sockaddr_in a; socklen_t l = sizeof a; getsockname(s, (void *)&a, &l); return ntohs(a.sin_port); }
static int con(int s, int p) { struct sockaddr_in a = A(p); return connect(s, (void *)&a, sizeof a); }
static int tcp(void) { return MUST(socket(AF_INET, SOCK_STREAM, 0)); }
static int ev(int s) { struct pollfd p = {s, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM}; poll(&p, 1, 0); return p.revents; }
static int evw(int s, int want) { for (int i = 0; i < 500 && ev(s) != want; i++) msleep(10); return ev(s); }
static int opt(int s, int level, int name) { int v = -7; socklen_t l = sizeof v; return getsockopt(s, level, name, &v, &l) ? -errno : v; }
static void pair(int ls, int *a, int *c) { *a = tcp(); MUST(con(*a, port(ls))); evw(ls, POLLIN | POLLRDNORM); *c = MUST(accept(ls, 0, 0)); }
int main(void) {
	signal(SIGPIPE, SIG_IGN);
	T(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP)); T(socket(AF_INET, SOCK_SEQPACKET, 0)); T(socket(AF_INET, SOCK_STREAM, 300)); T(socket(AF_INET, SOCK_STREAM, -1)); T(socket(AF_INET, 99, 0)); T(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){0}));
	int ls = tcp(), s, c;
	P("fresh %x\n", ev(ls)); T(recv(ls, b, 1, 0)); T(send(ls, b, 1, 0)); T(accept(ls, 0, 0));
	struct sockaddr_in a = A(0), n; socklen_t l = sizeof n;
	T(getpeername(ls, (void *)&n, &l)); T(getsockname(ls, (void *)&n, &l)); P("%d %d %x %d\n", l, n.sin_family, n.sin_addr.s_addr, n.sin_port);
	T(bind(ls, (void *)&a, 8)); a.sin_family = 77; T(bind(ls, (void *)&a, sizeof a)); a.sin_family = AF_INET; a.sin_addr.s_addr = inet_addr("1.2.3.4"); T(bind(ls, (void *)&a, sizeof a)); T(bind(ls, (void *)1, sizeof a));
	a = A(0); T(bind(ls, (void *)&a, sizeof a)); T(bind(ls, (void *)&a, sizeof a)); T(port(ls) > 1023); T(listen(ls, 3)); T(listen(ls, 4)); P("listening %x\n", ev(ls)); T(opt(ls, SOL_SOCKET, SO_ACCEPTCONN)); T(recv(ls, b, 1, 0));
	int other = tcp(); a = A(port(ls)); T(bind(other, (void *)&a, sizeof a)); close(other);
	fcntl(ls, F_SETFL, O_NONBLOCK); T(accept(ls, 0, 0));
	s = tcp(); T(con(s, port(ls))); P("backlog %x\n", evw(ls, POLLIN | POLLRDNORM)); l = sizeof n; c = accept4(ls, (void *)&n, &l, SOCK_CLOEXEC); P("%d %d %d\n", c > 0, l, ntohs(n.sin_port) == port(s)); T(fcntl(c, F_GETFD)); T(fcntl(c, F_GETFL) & O_NONBLOCK);
	T(con(s, port(ls))); T(con(ls, port(ls))); l = sizeof n; T(getpeername(s, (void *)&n, &l)); T(ntohs(n.sin_port) == port(ls)); T(opt(s, SOL_SOCKET, SO_TYPE)); T(opt(s, SOL_SOCKET, SO_DOMAIN)); T(opt(s, SOL_SOCKET, SO_PROTOCOL)); T(opt(s, SOL_SOCKET, SO_ERROR));
	P("connected %x %x\n", ev(s), ev(c)); T(send(s, "hello", 5, 0)); P("data %x\n", evw(c, 0x145)); int v; T(ioctl(c, FIONREAD, &v)); T(v); T(recv(c, b, 3, MSG_PEEK)); T(recv(c, b, 2, 0)); T(recv(c, b, 10, MSG_TRUNC)); T(recv(c, b, 10, MSG_DONTWAIT)); T(recv(c, b, 0, MSG_DONTWAIT)); T(recv(c, b, 10, MSG_OOB)); T(recv(c, b, 10, MSG_ERRQUEUE | MSG_DONTWAIT));
	T(send(s, "", 0, 0)); T(send(s, (void *)1, 5, 0)); T(send(s, "efault", 6, 0)); T(recv(c, (void *)1, 6, 0)); T(recv(c, b, 6, 0)); T(writev(s, (struct iovec[]){{"ab", 2}, {"cde", 3}}, 2)); T(recv(c, b, 5, MSG_WAITALL)); P("%.5s\n", b);
	if (!fork()) { msleep(50); send(s, "wait", 4, 0); msleep(50); send(s, "all!", 4, 0); _exit(0); } T(recv(c, b, 8, MSG_WAITALL)); P("%.8s\n", b); wait(0);
	struct timeval tv = {0, 20000}; setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); T(recv(c, b, 1, 0)); send(s, "ab", 2, 0); T(recv(c, b, 5, MSG_WAITALL));
	v = 3; setsockopt(c, SOL_SOCKET, SO_RCVLOWAT, &v, 4); send(s, "ab", 2, 0); msleep(20); P("lowat %x", ev(c)); send(s, "c", 1, 0); P(" %x\n", evw(c, 0x145)); T(recv(c, b, 10, 0)); v = 1; setsockopt(c, SOL_SOCKET, SO_RCVLOWAT, &v, 4);
	// A full pipe of data, and no byte lost.
	fcntl(s, F_SETFL, O_NONBLOCK); long sent = 0, got = 0; for (int i = 0; i < (int)sizeof b; i++) b[i] = i * 7; while ((v = send(s, b, sizeof b, 0)) > 0) sent += v; P("full %s\n", ename(errno)); static char r[1 << 16]; int bad = 0; while (got < sent && (v = recv(c, r, sizeof r, 0)) > 0) { got += v; } P("%d %d\n", got == sent, bad); P("room %x\n", evw(s, POLLOUT | POLLWRNORM));
	struct epoll_event ee = {EPOLLIN | EPOLLET | EPOLLRDHUP}; int ep = epoll_create1(0); epoll_ctl(ep, EPOLL_CTL_ADD, c, &ee); T(epoll_wait(ep, &ee, 1, 0)); send(s, "e", 1, 0); T(epoll_wait(ep, &ee, 1, 2000)); T(epoll_wait(ep, &ee, 1, 0)); send(s, "f", 1, 0); T(epoll_wait(ep, &ee, 1, 2000)); T(recv(c, b, 10, 0)); 
	T(shutdown(s, SHUT_WR)); T(epoll_wait(ep, &ee, 1, 2000)); P("rdhup %x poll %x %x\n", ee.events & EPOLLIN, evw(c, 0x2145), ev(s)); T(recv(c, b, 1, 0)); T(recv(c, b, 1, MSG_DONTWAIT)); T(send(s, "x", 1, 0)); T(send(c, "back", 4, 0)); fcntl(s, F_SETFL, 0); T(recv(s, b, 10, 0)); T(shutdown(c, 7)); T(shutdown(c, SHUT_WR)); T(recv(s, b, 10, 0)); P("closed %x %x\n", evw(s, 0x2155), evw(c, 0x2155)); close(s); close(c);
	// Reset: unread data, SO_LINGER, a peer that is gone.
	pair(ls, &s, &c); send(s, "unread", 6, 0); evw(c, 0x145); close(c); P("reset %x\n", evw(s, 0x215d)); T(recv(s, b, 1, 0)); T(recv(s, b, 1, 0)); T(send(s, b, 1, 0)); close(s);
	pair(ls, &s, &c); struct linger lg = {1, 0}; T(setsockopt(c, SOL_SOCKET, SO_LINGER, &lg, sizeof lg)); close(c); P("linger %x\n", evw(s, 0x215d)); T(opt(s, SOL_SOCKET, SO_ERROR)); T(opt(s, SOL_SOCKET, SO_ERROR)); T(recv(s, b, 1, 0)); T(send(s, b, 1, 0)); close(s);
	pair(ls, &s, &c); close(c); evw(s, 0x2145); T(recv(s, b, 1, 0)); T(send(s, "x", 1, 0)); P("broken %d\n", evw(s, 0x215d) & POLLHUP); T(send(s, "x", 1, 0)); signal(SIGPIPE, SIG_DFL); if (!fork()) { send(s, "x", 1, MSG_NOSIGNAL); send(s, "x", 1, 0); _exit(0); } wait(&v); P("%s\n", statstr(v)); signal(SIGPIPE, SIG_IGN); close(s);
	// Refused, and tried again on the same socket.
	int free_ = tcp(); a = A(0); bind(free_, (void *)&a, sizeof a); s = tcp(); T(con(s, port(free_))); P("refused %x\n", ev(s)); listen(free_, 1); T(con(s, port(free_))); P("again %x\n", ev(s)); close(s); close(free_);
	free_ = tcp(); bind(free_, (void *)&a, sizeof a); s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); T(con(s, port(free_)) == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED)); evw(s, 0x215d); T(opt(s, SOL_SOCKET, SO_ERROR)); close(s); close(free_);
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); v = con(s, port(ls)); P("%d\n", v == 0 || errno == EINPROGRESS); P("%x\n", evw(s, POLLOUT | POLLWRNORM)); T(opt(s, SOL_SOCKET, SO_ERROR)); T(con(s, port(ls)) == 0 || errno == EISCONN); close(s); evw(ls, POLLIN | POLLRDNORM); close(accept(ls, 0, 0));
	s = tcp(); struct sockaddr un = {AF_UNSPEC}; T(connect(s, &un, sizeof un)); T(connect(s, &un, 1)); struct sockaddr_in6 a6 = {AF_INET6}; T(connect(s, (void *)&a6, sizeof a6)); a = A(80); T(connect(s, (void *)&a, 8)); a.sin_addr.s_addr = -1; T(connect(s, (void *)&a, sizeof a)); a = (struct sockaddr_in){AF_INET, htons(port(ls))}; T(connect(s, (void *)&a, sizeof a)); l = sizeof n; getpeername(s, (void *)&n, &l); P("%s\n", inet_ntoa(n.sin_addr)); close(s); evw(ls, POLLIN | POLLRDNORM); close(accept(ls, 0, 0));
	// Options.
	pair(ls, &s, &c); v = 1; T(opt(s, IPPROTO_TCP, TCP_NODELAY)); T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, 4)); T(opt(s, IPPROTO_TCP, TCP_NODELAY)); T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, 2)); T(setsockopt(s, IPPROTO_TCP, 9999, &v, 4)); T(opt(s, IPPROTO_TCP, 9999)); T(opt(s, IPPROTO_TCP, TCP_KEEPIDLE)); T(opt(s, IPPROTO_TCP, TCP_KEEPINTVL)); T(opt(s, IPPROTO_TCP, TCP_KEEPCNT)); v = 10; T(setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &v, 4)); T(opt(s, IPPROTO_TCP, TCP_KEEPIDLE)); v = 0; T(setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &v, 4)); T(setsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &v, 4)); T(opt(s, IPPROTO_IP, IP_TTL)); T(opt(s, IPPROTO_IP, IP_TOS)); v = 300; T(setsockopt(s, IPPROTO_IP, IP_TTL, &v, 4)); v = 5; T(setsockopt(s, IPPROTO_IP, IP_TTL, &v, 4)); T(opt(s, IPPROTO_IP, IP_TTL)); T(opt(s, IPPROTO_IP, 9999)); T(opt(s, 77, 1)); T(opt(s, IPPROTO_IPV6, IPV6_V6ONLY)); v = 1; T(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, 4)); T(opt(s, SOL_SOCKET, SO_KEEPALIVE)); T(opt(s, SOL_SOCKET, SO_REUSEADDR)); T(opt(s, SOL_SOCKET, SO_LINGER)); T(opt(s, IPPROTO_TCP, TCP_USER_TIMEOUT)); struct tcp_info ti; l = sizeof ti; T(getsockopt(s, IPPROTO_TCP, TCP_INFO, &ti, &l)); P("state %d\n", ti.tcpi_state); char dev[16] = "lo"; T(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "nodev", 6)); char cc[16]; l = 16; T(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, cc, &l)); T(l); (void)dev;
	int f = open("f", O_RDWR | O_CREAT, 0600); MUST(write(f, "sendfile works", 14)); off_t o = 4; T(sendfile(s, f, &o, 100)); T(recv(c, b, 100, 0)); P("%.10s\n", b); int p[2]; MUST(pipe(p)); T(send(s, "spliced", 7, 0)); T(splice(c, 0, p[1], 0, 7, 0)); T(read(p[0], b, 10)); MUST(write(p[1], "other", 5)); T(splice(p[0], 0, c, 0, 5, 0)); T(recv(s, b, 10, 0)); close(s); close(c);
	// IPv6, and IPv4 through it.
	int l6 = MUST(socket(AF_INET6, SOCK_STREAM, 0)); a6 = (struct sockaddr_in6){AF_INET6}; T(bind(l6, (void *)&a6, sizeof a6)); T(listen(l6, 5)); T(opt(l6, IPPROTO_IPV6, IPV6_V6ONLY)); v = 1; T(setsockopt(l6, IPPROTO_IPV6, IPV6_V6ONLY, &v, 4)); s = tcp(); T(con(s, port(l6))); l = sizeof a6; T(accept(l6, (void *)&a6, &l) > 0); char t[64]; P("%d %s\n", l, inet_ntop(AF_INET6, &a6.sin6_addr, t, 64)); close(s); s = MUST(socket(AF_INET6, SOCK_STREAM, 0)); a6 = (struct sockaddr_in6){AF_INET6, htons(port(l6)), 0, IN6ADDR_LOOPBACK_INIT}; T(connect(s, (void *)&a6, sizeof a6)); c = accept(l6, (void *)&a6, &l); P("%s\n", inet_ntop(AF_INET6, &a6.sin6_addr, t, 64)); T(send(s, "six", 3, 0)); T(recv(c, b, 10, 0)); T(opt(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS)); 
	close(ls); s = tcp(); T(opt(s, IPPROTO_TCP, TCP_INFO) & 0); T(listen(s, 1)); T(port(s) != 0); P("%x\n", ev(s));
}
