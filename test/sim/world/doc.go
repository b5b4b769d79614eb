// Package world simulates histories: real engines on real stores, several users with several devices each, in
// virtual time over a network that loses, delays, reorders and partitions, with crashes, restored backups, wrong
// clocks and malicious members. docs/simulation.md is its manual.
//
// # Determinism
//
// A [Plan] follows from a seed: who there is and the list of actions. [Run] plays it inside of a testing/synctest
// bubble. One goroutine, the scheduler, decides everything that the world does: it takes one event (an action, the
// arrival of one frame, a connection that begins or is cut), lets it happen, and waits until every goroutine of every
// engine is durably blocked before it looks for the next one. Frames that a device sends meanwhile are staged and get
// their time of arrival afterwards, in an order that does not depend on which goroutine ran first. Each connection has
// a random source of its own, so that leaving out one action of a plan does not change the dice of the rest.
// Randomness of the engine (ids, salts, keys) comes from testing/cryptotest, which is global to the process: histories
// run one after the other, and several processes share the seeds.
//
// Seeds above [WideFrom] have wide histories: they also draw the kinds of actions behind Tamper (keys, devices, blocks, adoptions, manual
// admission, documents that end, indexes and watched queries), from another random source and another table. So those of the other seeds stay
// what they were. The files are wide*.go.
//
// What remains free is the order of goroutines within one event on one device. [Result].Trace is a hash over the
// events and over what every device holds in the end, so a difference would show.
package world
