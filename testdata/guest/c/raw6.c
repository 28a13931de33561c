// user: root
// A raw ICMPv6 socket as ping has it: the checksum is asked for at the level SOL_RAW, and is there whatever is asked.
#include "t.h"
#include <netinet/icmp6.h>
#include <netinet/in.h>
static int sum(int s, int level, int v) { return setsockopt(s, level, IPV6_CHECKSUM, &v, sizeof v); }
int main(void) {
	int s = MUST(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	T(sum(s, SOL_RAW, 2)); T(sum(s, SOL_RAW, 3)); T(sum(s, IPPROTO_IPV6, 2)); T(sum(s, IPPROTO_ICMPV6, 2));
	struct icmp6_filter f; ICMP6_FILTER_SETBLOCKALL(&f); ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &f); T(setsockopt(s, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof f));
	struct icmp6_hdr h = {.icmp6_type = ICMP6_ECHO_REQUEST, .icmp6_id = htons(77), .icmp6_seq = htons(5)}, r; struct sockaddr_in6 a = {AF_INET6, 0, 0, IN6ADDR_LOOPBACK_INIT};
	T(sendto(s, &h, sizeof h, 0, (void *)&a, sizeof a)); T(recv(s, &r, sizeof r, 0)); P("type %d id %d seq %d\n", r.icmp6_type, ntohs(r.icmp6_id), ntohs(r.icmp6_seq));
	int u = MUST(socket(AF_INET6, SOCK_RAW, IPPROTO_UDP)); T(sum(u, SOL_RAW, 2)); T(sum(u, SOL_RAW, 3)); T(sum(u, IPPROTO_IPV6, 4)); T(sum(u, SOL_RAW, -1)); close(u); close(s);
	return 0;
}
