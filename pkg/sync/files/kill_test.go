package files_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// killDir names the folder in which a copy of this test binary writes chunks
// until it is killed.
const killDir = "FILES_TEST_KILL_DIR"

const killChunks = 96

func killContent() []byte { return random(killChunks*files.ChunkSize-3, 42) }

func writeUntilKilled() int {
	content := killContent()
	err := func() error {
		from, err := files.Open(os.Getenv(killDir)+"/from", files.Options{})
		if err != nil {
			return err
		}
		f, err := from.Open(files.RefOf(content).ID)
		if err != nil {
			return err
		}
		to, err := files.Open(os.Getenv(killDir)+"/to", files.Options{})
		if err != nil {
			return err
		}
		p, err := to.Begin(f.Ref(), nil)
		if err != nil {
			return err
		}
		page, err := f.Page(0)
		if err != nil {
			return err
		}
		if err := p.SetTop(f.Top()); err != nil {
			return err
		}
		if err := p.SetPage(0, page); err != nil {
			return err
		}
		for _, i := range rand.Perm(killChunks) {
			if err := p.Put(i, chunkOf(content, i)); err != nil {
				return err
			}
			fmt.Println(i)
		}
		return p.Finish()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	time.Sleep(time.Hour) // until it is killed
	return 0
}

// TestKill kills a writer with kill -9 at random moments: every chunk that Put
// had taken is there afterwards, and the file gets complete.
func TestKill(t *testing.T) {
	content := killContent()
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		dir := t.TempDir()
		from := open(t, dir+"/from", files.Options{})
		ref := add(t, from, content)
		after := rand.IntN(killChunks + 1)
		taken := runAndKill(t, dir, after)

		to := open(t, dir+"/to", files.Options{})
		f, err := from.Open(ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := to.Stat(ref.ID); !info.Complete { // it is, when the kill came late
			p := begin(t, to, f)
			for _, i := range taken {
				if !p.Has(i) {
					t.Errorf("round %d: chunk %d is gone", round, i)
				}
			}
			for i := range killChunks {
				put(t, p, content, i)
			}
			if err := p.Finish(); err != nil {
				t.Fatal(err)
			}
			_ = p.Close()
		}
		if !bytes.Equal(read(t, to, ref.ID), content) {
			t.Error("another content")
		}
		_ = f.Close()
	}
}

// runAndKill kills the writer when it has taken that many chunks.
func runAndKill(t *testing.T, dir string, after int) []int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var taken []int
	lines := bufio.NewScanner(out)
	for len(taken) < after && lines.Scan() {
		var i int
		if _, err := fmt.Sscan(lines.Text(), &i); err != nil {
			t.Fatal(err)
		}
		taken = append(taken, i)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return taken
}
