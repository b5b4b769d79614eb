//go:build !linux

package daemon_test

func callAsOther(string) int { return 1 }
