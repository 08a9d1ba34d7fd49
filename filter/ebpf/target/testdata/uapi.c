// The types that programs share with the kernel by contract: packet headers and
// structures of the BPF interface. Only their layout is used, as BTF, to relocate
// programs that were compiled against another definition of them.
#include <linux/bpf.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

// Headers that Linux keeps out of its exported files, from their standards.
struct vlan_hdr { __be16 h_vlan_TCI, h_vlan_encapsulated_proto; };                              // 802.1Q
struct vlan_ethhdr { __u8 h_dest[6], h_source[6]; __be16 h_vlan_proto, h_vlan_TCI, h_vlan_encapsulated_proto; };
struct sctphdr { __be16 source, dest; __be32 vtag; __le32 checksum; };                          // RFC 9260
struct gre_base_hdr { __be16 flags, protocol; };                                               // RFC 2784
struct frag_hdr { __u8 nexthdr, reserved; __be16 frag_off; __be32 identification; };            // RFC 8200
struct vxlanhdr { __be32 vx_flags, vx_vni; };                                                   // RFC 7348

#define KEEP(kind, name) kind name keep_##name
KEEP(struct, ethhdr); KEEP(struct, vlan_hdr); KEEP(struct, vlan_ethhdr); KEEP(struct, iphdr); KEEP(struct, ipv6hdr);
KEEP(struct, tcphdr); KEEP(struct, udphdr); KEEP(struct, icmphdr); KEEP(struct, icmp6hdr); KEEP(struct, arphdr);
KEEP(struct, in_addr); KEEP(struct, in6_addr); KEEP(struct, ipv6_opt_hdr); KEEP(struct, ipv6_rt_hdr);
KEEP(struct, sctphdr); KEEP(struct, gre_base_hdr); KEEP(struct, frag_hdr); KEEP(struct, vxlanhdr);
KEEP(struct, sockaddr_in); KEEP(struct, sockaddr_in6);
KEEP(struct, __sk_buff); KEEP(struct, xdp_md); KEEP(struct, bpf_sock); KEEP(struct, bpf_tcp_sock); KEEP(struct, bpf_sock_tuple);
KEEP(struct, bpf_tunnel_key); KEEP(struct, bpf_xfrm_state); KEEP(struct, bpf_fib_lookup); KEEP(struct, bpf_redir_neigh);
KEEP(struct, bpf_flow_keys); KEEP(struct, bpf_spin_lock); KEEP(struct, bpf_timer); KEEP(struct, bpf_dynptr); KEEP(struct, bpf_lpm_trie_key);
KEEP(struct, bpf_devmap_val); KEEP(struct, bpf_cpumap_val); KEEP(struct, bpf_pidns_info); KEEP(struct, bpf_perf_event_value);
KEEP(enum, bpf_func_id); KEEP(enum, bpf_map_type); KEEP(enum, bpf_prog_type); KEEP(enum, bpf_attach_type);
