// Command again runs go test with its arguments. Packages that fail are tested again, one after the other, TRIES times in
// all (default 1): a machine that is busy can be too slow for tests of real sockets and processes. What passed only then is
// printed at the end. A package that does not build, and a data race, are no matter of luck and fail at once.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	tries, err := strconv.Atoi(os.Getenv("TRIES"))
	if err != nil || tries < 1 {
		tries = 1
	}
	if err := run(tries, os.Args[1:], test); err != nil {
		fmt.Fprintln(os.Stderr, "again:", err)
		os.Exit(1)
	}
}

// test runs go test and returns what it printed.
func test(args []string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command("go", append([]string{"test"}, args...)...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &out), os.Stderr
	err := cmd.Run()
	return out.String(), err
}

// run tests until nothing fails or tries are used up.
func run(tries int, args []string, test func(args []string) (string, error)) error {
	var flags, late []string
	for _, a := range args {
		if !strings.HasPrefix(a, "./") {
			flags = append(flags, a)
		}
	}
	for try := 1; ; try++ {
		out, err := test(args)
		if err == nil {
			break
		}
		failed, luck := failures(out)
		if !luck || try >= tries {
			return err
		}
		fmt.Printf("AGAIN\t%s\n", strings.Join(failed, " "))
		late = failed
		args = append(append(append([]string{}, flags...), "-p", "1", "-count=1"), failed...)
	}
	if len(late) > 0 {
		fmt.Printf("passed only when tested again: %s\n", strings.Join(late, " "))
	}
	return nil
}

var failure = regexp.MustCompile(`(?m)^FAIL\t(\S+)(.*)$`)

// failures are the packages that failed, and whether another run may tell something else.
func failures(out string) (packages []string, luck bool) {
	luck = !strings.Contains(out, "WARNING: DATA RACE")
	for _, m := range failure.FindAllStringSubmatch(out, -1) {
		packages = append(packages, m[1])
		luck = luck && !strings.Contains(m[2], "failed]") // to build, or to be set up
	}
	return packages, luck && len(packages) > 0
}
