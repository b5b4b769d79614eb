package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command shows how it is used, its examples name it, and no flag's text
// is taken for the name of its type.
func TestHelp(t *testing.T) {
	seen := map[string]bool{}
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			look(c)
		}
		path := cmd.CommandPath()
		seen[path] = true
		if cmd.Name() == "help" || cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
			return
		}
		// join and leave are also commands of group.
		if !strings.Contains(cmd.Example, path) && !strings.Contains(cmd.Example, "peerd "+cmd.Name()) {
			t.Errorf("%s: the example is %q", path, cmd.Example)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if strings.Contains(f.Usage, "`") {
				t.Errorf("%s --%s: %s", path, f.Name, f.Usage)
			}
		})
	}
	look((&app{}).root())
	for path := range examples {
		if !seen[path] {
			t.Errorf("there is no command %s", path)
		}
	}
}
