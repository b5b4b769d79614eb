// Command files measures the transfer of one large file between two peers over
// WebRTC on loopback, in two processes, beside a bare pion data channel between
// two processes in the same run. The table has the medians of the rounds, the
// ratio, and what the memory of sender and receiver grows by.
package main
