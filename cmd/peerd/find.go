package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

// findFlags are those of the command find.
type findFlags struct {
	typ, order, after string
	where             []string
	desc, watch       bool
	limit             int
}

func (f findFlags) path(group string) string {
	v := url.Values{}
	set := func(name, value string, is bool) {
		if is {
			v.Set(name, value)
		}
	}
	set("type", f.typ, f.typ != "")
	set("order", f.order, f.order != "")
	set("after", f.after, f.after != "")
	set("limit", fmt.Sprint(f.limit), f.limit > 0)
	set("desc", "1", f.desc)
	set("watch", "1", f.watch)
	for _, w := range f.where {
		v.Add("where", w)
	}
	return groupPath(group, "find") + "?" + v.Encode()
}

func (a *app) findCmd() *cobra.Command {
	var f findFlags
	cmd := &cobra.Command{
		Use: "find GROUP", Short: "Find documents by their fields",
		Long: `Prints the documents that meet all conditions. A condition is a field, one of
= < <= > >= and a value: JSON, or else a text. Only values of the same type match. The
field "modified" is the time of the last change in unix milliseconds.

Conditions and orders by other fields need an index (peerd index add). With --limit
the last line tells how to go on. With --watch it goes on until interrupted and
tells what enters (+), changes in (~) and leaves (-) the result.`,
		Example: `  peerd find garden --type Task --where done=false --where 'due<20261231' --order due
  peerd find garden --order modified --desc --limit 10
  peerd find garden --type Task --where done=false --watch --json`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.watch && (f.limit > 0 || f.after != "") {
				return usageError{errors.New("--watch has the whole result, without --limit and --after")}
			}
			err := a.client().Lines(cmd.Context(), "GET", f.path(args[0]), nil, a.showFound)
			if f.watch && cmd.Context().Err() != nil {
				return nil // interrupted, as it should be
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.typ, "type", "", "only documents of this type")
	flags.StringArrayVar(&f.where, "where", nil, "only documents that meet this condition; may be repeated")
	flags.StringVar(&f.order, "order", "", "in the order of this field (default: of ids)")
	flags.BoolVar(&f.desc, "desc", false, "greatest first")
	flags.IntVar(&f.limit, "limit", 0, "at most so many (0: all)")
	flags.StringVar(&f.after, "after", "", "go on where an earlier call ended")
	flags.BoolVar(&f.watch, "watch", false, "go on and tell changes")
	return cmd
}

// foundLine is any line of find.
type foundLine struct {
	api.Document
	api.FindEnd
	api.Change
}

var changeMarks = map[string]string{"": "", "added": "+ ", "changed": "~ ", "removed": "- "}

func (a *app) showFound(line []byte) error {
	if a.cfg.json {
		return a.line("%s\n", line)
	}
	var l foundLine
	if err := json.Unmarshal(line, &l); err != nil {
		return fmt.Errorf("reading peerd's answer: %w", err)
	}
	d := &l.Document
	if l.Change.Document != nil {
		d = l.Change.Document
	}
	switch {
	case l.Next != "":
		a.note("more: --after %s\n", l.Next)
		return nil
	case d.ID == "":
		return nil // what was there at the beginning is told
	}
	return a.line("%s%s  %s  %s\n", changeMarks[l.Change.Change], d.ID, when(d.Modified), d.Doc)
}

func (a *app) indexCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "index", Short: "Indexes over fields of documents, for peerd find"}
	needsSubcommand(cmd)
	cmd.AddCommand(a.indexAddCmd(), a.indexLsCmd(), a.indexRmCmd())
	return cmd
}

func indexPath(name string) string { return client.Path("indexes", name) }

func (a *app) indexAddCmd() *cobra.Command {
	return &cobra.Command{
		Use: "add NAME TYPE FIELD...", Short: "Make an index over 1 to 4 fields of a type's documents",
		Long: `Answers queries that compare the first fields with = and then compare or order by
the next one. Fields are names of members with dots between levels; the last one may
be "modified". An index of the same name is replaced. At most 32 indexes can be.`,
		Example: "  peerd index add due Task done due\n  peerd index add city Person address.city",
		Args:    args(cobra.RangeArgs(3, 6)),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := api.Index{Type: args[1], Fields: args[2:]}
			if err := a.client().Do(cmd.Context(), "PUT", indexPath(args[0]), body, nil); err != nil {
				return err
			}
			return a.print(struct{}{}, func() {})
		},
	}
}

func (a *app) indexLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List indexes", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []api.Index
			if err := a.client().Do(cmd.Context(), "GET", "/indexes", nil, &list); err != nil {
				return err
			}
			return a.print(list, func() {
				a.table(func(w io.Writer) {
					row(w, "NAME", "TYPE", "FIELDS")
					for _, x := range list {
						row(w, x.Name, x.Type, strings.Join(x.Fields, ", "))
					}
				})
			})
		},
	}
}

func (a *app) indexRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove an index", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client().Do(cmd.Context(), "DELETE", indexPath(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(struct{}{}, func() {})
		},
	}
}
