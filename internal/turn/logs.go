package turn

import (
	"log/slog"

	"github.com/pion/logging"
)

// pionLogs passes pion's messages on at debug level, without their arguments:
// those are addresses of clients and peers, which are not logged.
type pionLogs struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (p pionLogs) NewLogger(string) logging.LeveledLogger { return pionLogger(p) }

type pionLogger struct{ log *slog.Logger }

func (p pionLogger) say(format string) { p.log.Debug("pion/turn reported", "message", format) }

func (pionLogger) Trace(string)                {}
func (pionLogger) Tracef(string, ...any)       {}
func (pionLogger) Debug(string)                {}
func (pionLogger) Debugf(string, ...any)       {}
func (pionLogger) Info(string)                 {}
func (pionLogger) Infof(string, ...any)        {}
func (p pionLogger) Warn(m string)             { p.say(m) }
func (p pionLogger) Warnf(m string, _ ...any)  { p.say(m) }
func (p pionLogger) Error(m string)            { p.say(m) }
func (p pionLogger) Errorf(m string, _ ...any) { p.say(m) }
