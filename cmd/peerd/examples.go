package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// examples are those of commands whose help has little else to say.
var examples = map[string]string{
	"peerd down":              "peerd down",
	"peerd version":           "peerd version",
	"peerd id":                "peerd id --json | jq -r .user",
	"peerd events":            "peerd events | jq -c 'select(.kind == \"document-changed\") | .document'",
	"peerd get":               "peerd get garden 00kqn91s56yt2gu3yf5vnbg67 | jq .text",
	"peerd rm":                "peerd rm garden 00kqn91s56yt2gu3yf5vnbg67",
	"peerd leave":             "peerd leave garden --yes",
	"peerd inbox":             "peerd inbox --json | jq -r '.[].text'",
	"peerd quarantine":        "peerd quarantine --group garden",
	"peerd file list":         "peerd file list garden",
	"peerd file status":       "peerd file status",
	"peerd file pin":          "peerd file pin garden plan.pdf",
	"peerd file unpin":        "peerd file unpin garden plan.pdf",
	"peerd file forget":       "peerd file forget garden plan.pdf",
	"peerd index":             "peerd index add due Task done due\n  peerd index ls",
	"peerd index ls":          "peerd index ls --json",
	"peerd index rm":          "peerd index rm due",
	"peerd group block":       "peerd group block garden bob",
	"peerd group checkpoint":  "peerd group checkpoint garden bob",
	"peerd group adopt":       "peerd quarantine --group garden\n  peerd group adopt garden ENTRY",
	"peerd key show":          "peerd key show bob",
	"peerd key safety-number": "peerd key safety-number bob",
	"peerd key verify":        "peerd key verify bob",
	"peerd key card":          "peerd key card > my-card.txt\n  peerd key card bob --way-back",
	"peerd key rotate":        "peerd key rotate",
	"peerd key proposals":     "peerd key proposals",
	"peerd device ls":         "peerd device ls",
	"peerd device revoke":     "peerd device revoke 00kqn91s56yt2gu3yf5vnbg67",
	"peerd group create":      "peerd group create garden",
	"peerd group ls":          "peerd group ls --json | jq -r '.[].name'",
	"peerd group members":     "peerd group members garden",
	"peerd group invitations": "peerd group invitations garden",
	"peerd group uninvite":    "peerd group uninvite garden INVITATION",
	"peerd group requests":    "peerd group requests garden",
	"peerd group admit":       "peerd group admit garden bob",
	"peerd group leave":       "peerd group leave garden --yes",
	"peerd group remove":      "peerd group remove garden bob --reason 'moved away'",
	"peerd group role":        "peerd group role garden bob read",
	"peerd group rename":      "peerd group rename garden allotment",
	"peerd group delete":      "peerd group delete garden",
	"peerd group purge":       "peerd group purge garden",
	"peerd group accept":      "peerd group accept garden",
	"peerd group decline":     "peerd group decline garden",
}

// addExamples gives commands their examples.
func addExamples(cmd *cobra.Command) {
	if text, ok := examples[cmd.CommandPath()]; ok && cmd.Example == "" {
		cmd.Example = "  " + text
	}
	for _, c := range cmd.Commands() {
		addExamples(c)
	}
}

// flagError says what a flag's value has to be.
func flagError(cmd *cobra.Command, err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageError{hinted{err, fmt.Sprintf("See %s --help.", cmd.CommandPath())}}
	}
	want := map[string]string{
		"bool": "true or false", "duration": "a time with a unit, like 90m", "int": "a number", "int64": "a number", "uint64": "a number from 0",
	}[bad.GetFlag().Value.Type()]
	if want == "" {
		return usageError{err}
	}
	return usageError{fmt.Errorf("--%s is %q: want %s", bad.GetFlag().Name, bad.GetValue(), want)}
}
