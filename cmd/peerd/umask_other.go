//go:build !unix

package main

// privateFiles has nothing to do: a user's profile folder is private here.
func privateFiles() {}
