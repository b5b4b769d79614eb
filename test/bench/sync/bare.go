package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/peersignal/peersignal/test/bench/proc"
	_ "modernc.org/sqlite" // the driver that the store uses
)

// bareVerifies returns how many Ed25519 signatures of 32 bytes all cores verify in a second, and the processor time of one in µs.
func bareVerifies(d time.Duration) (rate, cost float64) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	message := make([]byte, 32)
	sig := ed25519.Sign(priv, message)
	cores := runtime.GOMAXPROCS(0)
	counts := make([]int, cores)
	var wg sync.WaitGroup
	begin, cpu := time.Now(), proc.CPU("self")
	for c := range cores {
		wg.Go(func() {
			for time.Since(begin) < d {
				for range 64 {
					if !ed25519.Verify(pub, message, sig) {
						panic("a signature is wrong")
					}
				}
				counts[c] += 64
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(begin).Seconds(), (proc.CPU("self") - cpu).Seconds() * 1e6 / float64(total)
}

// bareCommits times n durable transactions, each of one row of 600 bytes in a table with one index.
func bareCommits(path string, n int) ([]float64, error) {
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, hash BLOB UNIQUE, raw BLOB)"); err != nil {
		return nil, err
	}
	insert, err := db.Prepare("INSERT INTO t (hash, raw) VALUES (?, ?)")
	if err != nil {
		return nil, err
	}
	defer func() { _ = insert.Close() }()
	times := make([]float64, n)
	for i := range times {
		hash, raw := make([]byte, 32), make([]byte, 600)
		_, _ = rand.Read(hash) // never fails
		begin := time.Now()
		tx, err := db.Begin()
		if err == nil {
			_, err = tx.Stmt(insert).Exec(hash, raw)
			err = errors.Join(err, tx.Commit())
		}
		if err != nil {
			return nil, err
		}
		times[i] = time.Since(begin).Seconds()
		time.Sleep(5 * time.Millisecond)
	}
	return times, nil
}
