// Package lab makes small networks out of Linux network namespaces: a public segment, sites behind NAT routers of a
// chosen behaviour, hosts in them. Nothing leaves the namespaces, which have no link to the machine's own network, and
// they end with the lab. It needs root, ip (iproute2), nft (nftables) and conntrack.
//
// A lab has at most [MaxNodes] namespaces. Their names tell which process made them, so that what a killed run left
// behind is found and deleted by the next one ([Sweep]).
//
// All links are point to point: a host has its address as /32 (or /128) and a route to its gateway. Addresses are those
// for documentation and private networks.
package lab
