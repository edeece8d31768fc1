/** What all subsystems of nfnetlink have in common (linux/netfilter/nfnetlink.h). */
export const NETLINK_NETFILTER = 12
/** Size of struct nfgenmsg, which stands before the attributes: family, version, resource id. */
export const NFGENMSG_BYTES = 4
