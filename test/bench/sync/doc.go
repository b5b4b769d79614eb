// Command sync measures how two devices of different users sync a group over
// WebRTC on loopback, in two processes, with every signature verified and every
// batch durable. The signature checks per second that all cores do, and the bare
// commits of SQLite, are measured in the same run, because the speed of machines
// drifts: what counts are the ratios.
package main
