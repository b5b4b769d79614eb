// Package recon finds the differences between two ordered sets by comparing fingerprints of ranges.
package recon
