package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/buildinfo"
)

// A Report is what a run measured. Its JSON is stable: members are added, never
// changed. Times are in milliseconds unless a name says otherwise.
type Report struct {
	Tool     string    `json:"tool"` // "peersignal load" and the version
	URL      string    `json:"url"`
	Dialect  string    `json:"dialect"`
	Scenario Scenario  `json:"scenario"`
	Started  time.Time `json:"started"`
	Devices  int       `json:"devices"`
	GroupsOf int       `json:"groupsOf"`
	Topics   int       `json:"topics"`
	Size     int       `json:"size"`

	Connected   int     `json:"connected"`         // when measuring began
	Up          int     `json:"up"`                // when it ended
	Connecting  float64 `json:"connectingSeconds"` // until all were connected or had failed
	Seconds     float64 `json:"seconds"`           // that were measured
	Interrupted bool    `json:"interrupted,omitempty"`

	Sent      uint64  `json:"sent"`      // messages
	Delivered uint64  `json:"delivered"` // results that say so
	Arrived   uint64  `json:"arrived"`   // envelopes, or announcements of a device
	PerSecond float64 `json:"perSecond"` // of what arrived

	Connect  Percentiles `json:"connect"`  // TCP, TLS and upgrade
	Auth     Percentiles `json:"auth"`     // from dialling to ready
	Result   Percentiles `json:"result"`   // from sending to the result
	Received Percentiles `json:"received"` // from sending to the arrival at the other device

	Refused map[string]uint64 `json:"refused"` // messages, by code
	Failed  map[string]uint64 `json:"failed"`  // connections that failed or ended unasked, by reason
	Noted   map[string]uint64 `json:"noted"`   // what servers announced, by code
	Errors  uint64            `json:"errors"`  // sum of Refused and Failed
	Advice  []string          `json:"advice,omitempty"`

	Newcomers *NewcomerReport `json:"newcomers,omitempty"`
	Logins    *LoginReport    `json:"logins,omitempty"`
	Storms    *StormReport    `json:"storms,omitempty"`
	Load      ProcessReport   `json:"load"`
	Server    *ProcessReport  `json:"server,omitempty"`

	begin, idle sample // of the server, with nobody and with everybody connected
}

// A NewcomerReport is of the scenario newcomers.
type NewcomerReport struct {
	Joined    int         `json:"joined"`
	Others    int         `json:"others"` // in the group
	AtOnce    int         `json:"atOnce"`
	WholeList Percentiles `json:"wholeList"` // from asking to having the whole list
	// Processor time of the server for each, with the announcements to the
	// others.
	ServerCPU  float64 `json:"serverCpuMs,omitempty"`
	LeavingCPU float64 `json:"leavingServerCpuMs,omitempty"`
}

// A LoginReport is of the scenario auth.
type LoginReport struct {
	Done      uint64  `json:"done"`
	PerSecond float64 `json:"perSecond"`
}

// A StormReport is of the scenario storm.
type StormReport struct {
	BackAfter []float64 `json:"backAfterSeconds"` // until all were back, for each storm
	Resumed   uint64    `json:"resumed"`          // sessions that went on
}

// A ProcessReport is what a process used while it was measured.
type ProcessReport struct {
	PID          int     `json:"pid,omitempty"`
	CPU          float64 `json:"cpuSeconds"`
	CPUPer100k   float64 `json:"cpuSecondsPer100000"` // of what arrived, or of logins
	RSS          int     `json:"rssBytes,omitempty"`  // at the end
	KBPerSession float64 `json:"kbPerSession,omitempty"`
}

func (r *run) newReport() *Report {
	c := &r.cfg
	return &Report{
		Tool: "peersignal load " + buildinfo.Version, URL: c.URL, Dialect: c.Dialect.Name(), Scenario: c.Scenario,
		Started: time.Now().UTC().Truncate(time.Second), Devices: c.Devices, GroupsOf: c.GroupsOf, Topics: c.Topics, Size: c.Size,
		begin: r.server.sample(),
	}
}

// measured takes what happened in the time that counts.
func (r *Report) measured(d time.Duration, from, to total, before, after sample, ours float64) {
	r.Seconds = d.Seconds()
	r.Sent, r.Delivered, r.Arrived = to.sent-from.sent, to.delivered-from.delivered, to.arrived-from.arrived
	r.PerSecond = float64(r.Arrived) / r.Seconds
	unit := r.Arrived
	if r.Scenario == Auth {
		unit = r.Sent
	}
	r.Load = ProcessReport{CPU: ours, CPUPer100k: per100k(ours, unit)}
	if before.pid == 0 {
		return
	}
	cpu := after.cpu - before.cpu
	r.Server = &ProcessReport{PID: after.pid, CPU: cpu, CPUPer100k: per100k(cpu, unit), RSS: after.rss}
	if r.Connected > 0 {
		r.Server.KBPerSession = float64(r.idle.rss-r.begin.rss) / float64(r.Connected) / 1000
	}
}

func per100k(cpu float64, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return cpu / float64(n) * 1e5
}

// finish adds what was counted in the whole run.
func (r *run) finish(report *Report) {
	var connect, auth, result, received []*histogram
	for _, c := range r.counters {
		connect, auth = append(connect, &c.connect), append(auth, &c.auth)
		result, received = append(result, &c.result), append(received, &c.received)
	}
	report.Connect, report.Auth = percentiles(connect...), percentiles(auth...)
	report.Result, report.Received = percentiles(result...), percentiles(received...)
	r.scenario.report(report)
	report.Errors = r.errors()
	r.mu.Lock()
	defer r.mu.Unlock()
	report.Refused, report.Failed, report.Noted = maps.Clone(r.refused), maps.Clone(r.failed), maps.Clone(r.noted)
	report.Advice = advise(report.Refused, report.Failed)
}

// Print writes the report for people.
func (r *Report) Print(to io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s  %s  %d devices of %d connected in %.1f s, measured %.1f s", r.Scenario, r.URL, r.Connected, r.Devices, r.Connecting, r.Seconds)
	if r.Sent > 0 && r.Logins == nil {
		line("  sent %d, delivered %d, arrived %d: %.0f arrived a second", r.Sent, r.Delivered, r.Arrived, r.PerSecond)
	}
	r.printScenario(line)
	line("  %-24s %10s %10s %10s %10s %10s %10s", "milliseconds", "count", "p50", "p90", "p99", "p99.9", "max")
	for _, p := range []struct {
		name string
		Percentiles
	}{
		{"connect", r.Connect}, {"connect and authenticate", r.Auth}, {"result", r.Result}, {"arrival", r.Received},
	} {
		if p.Count > 0 {
			line("  %-24s %10d %10.2f %10.2f %10.2f %10.2f %10.2f", p.name, p.Count, p.P50, p.P90, p.P99, p.P999, p.Max)
		}
	}
	line("  this load used %.2f s of processor time (%.2f s for 100,000)", r.Load.CPU, r.Load.CPUPer100k)
	if s := r.Server; s != nil {
		line("  the server used %.2f s of processor time (%.2f s for 100,000), has %.1f MB resident, %.1f KB a session",
			s.CPU, s.CPUPer100k, float64(s.RSS)/1e6, s.KBPerSession)
	}
	printCounts(line, "refused", r.Refused)
	printCounts(line, "failed", r.Failed)
	printCounts(line, "announced", r.Noted)
	for _, text := range r.Advice {
		line("  %s", text)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (r *Report) printScenario(line func(string, ...any)) {
	if n := r.Newcomers; n != nil {
		line("  %d newcomers, %d at once, to a group of %d: whole list after p50 %.2f ms, p99 %.2f ms",
			n.Joined, n.AtOnce, n.Others, n.WholeList.P50, n.WholeList.P99)
		if n.ServerCPU > 0 {
			line("  each cost the server %.2f ms of processor time, and %.2f ms when it left, with the announcements to the others",
				n.ServerCPU, n.LeavingCPU)
		}
	}
	if l := r.Logins; l != nil {
		line("  %d authentications, %.0f a second", l.Done, l.PerSecond)
	}
	if s := r.Storms; s != nil {
		for i, seconds := range s.BackAfter {
			line("  storm %d: all were back after %.2f s", i+1, seconds)
		}
		line("  %d sessions were resumed", s.Resumed)
	}
}

func printCounts(line func(string, ...any), title string, counts map[string]uint64) {
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		line("  %s %s: %d", title, code, counts[code])
	}
}
