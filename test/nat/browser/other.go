//go:build !linux

package main

import "fmt"

func main() { fmt.Println("skipped: the laboratory is made of Linux network namespaces") }
