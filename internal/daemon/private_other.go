//go:build !unix

package daemon

func ownUID() int { return -1 }

// checkPrivate trusts that a user's profile folder is private here.
func checkPrivate(string) error { return nil }
