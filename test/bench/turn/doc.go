// Command turn measures the embedded relay, and coturn beside it when the
// Debian package coturn is installed: channel data both ways over 64
// allocations, in steps of packets a second up to the rate at which one percent
// is lost, the processor time for a million packets, memory for an allocation,
// and allocations a second.
//
// The servers run in processes of their own on processors 0 and 1, the load on
// the others. Both are measured in turns in the same run: figures of a shared
// machine drift, and only the ratios mean something. It takes less than three
// minutes, and needs Linux, taskset and four processors.
package main
