package plan

// Protocol marks the routes (rtm_protocol), rules (FRA_PROTOCOL) and addresses
// (IFA_PROTO) that are ours. 64 is unassigned in linux/rtnetlink.h and in
// iproute2's rt_protos.
const Protocol = 64

// AliasPrefix begins the link alias of every TUN of ours.
const AliasPrefix = "tnat64d: CLAT on "
