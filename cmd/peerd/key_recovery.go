package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

func (a *app) recoveryCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "recovery", Short: "Your 24 recovery words", Example: "  peerd key recovery new --words-file words.txt"}
	needsSubcommand(cmd)
	var words string
	var yes bool
	fresh := &cobra.Command{
		Use: "new", Short: "Replace your 24 words",
		Long: `Makes new recovery words, shows them once, and sets them: signed by the old words and
your key. Who knows the new ones from your devices, or from the members that they
met, takes the old ones no more. End the daemon before. The old words are not
disarmed for somebody who has them and shows an old history to people who never
heard of the new one: change words for caution, not after a theft of the words
and the key.`,
		Example: "  peerd down\n  peerd key recovery new --words-file words.txt",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			old, err := a.readWords(words)
			if err != nil {
				return err
			}
			if err := a.confirm("Replace your 24 words?", yes); err != nil {
				return err
			}
			return a.newWords(cmd.Context(), old)
		},
	}
	f := fresh.Flags()
	f.StringVar(&words, "words-file", "", "file with the 24 words in force; - or none: standard input")
	f.String("passphrase-file", "", "file whose first line is the passphrase")
	yesFlag(fresh, &yes)
	cmd.AddCommand(fresh)
	return cmd
}

// newRecovery is what key recovery new prints.
type newRecovery struct {
	User     string   `json:"user"`
	Recovery []string `json:"recovery"`
}

// newWords shows the new words before they count: words that were never shown must not be the only ones.
func (a *app) newWords(ctx context.Context, old peercrypto.Recovery) error {
	id, ks, err := a.unlock()
	if err != nil {
		return err
	}
	defer clear(ks.Passphrase)
	_, next, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		return err
	}
	return a.offline(func(o offline) error {
		id, err := o.settle(ctx, id, ks)
		if err != nil {
			return err
		}
		out := newRecovery{string(id.UserID()), next.Words()}
		err = o.open(ctx, id, func(e *groupsync.Engine) error {
			known, err := e.UserKeys(ctx, id.UserID())
			if err != nil {
				return err
			}
			if pin, ok := known.History.State.Recovery(); ok && pin != old.Pin() {
				return hinted{keys.ErrNoRecovery, "These are another user's words, or they were replaced before."}
			}
			if err := a.print(out, func() { a.showWords(out.Recovery) }); err != nil {
				return err
			}
			if err := e.SetRecovery(ctx, old, next); err != nil {
				return hinted{err, "The old words stay in force. Forget the new ones."}
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = o.settle(ctx, id, ks)
		a.note("\nThe new words are in force. Let the daemon run, so that your other devices and members hear of it: peerd up\n")
		return err
	})
}

// showWords prints recovery words, six in a line.
func (a *app) showWords(words []string) {
	a.printf("Recovery words. They are shown only now; write them down and keep them safe:\n\n")
	for i := 0; i < len(words); i += 6 {
		a.printf("  %s\n", strings.Join(words[i:min(i+6, len(words))], " "))
	}
}
