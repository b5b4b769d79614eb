package suggest

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"listen", "name", "turn", "--config", "--help"}
	for wrong, want := range map[string]string{
		"lisen": "listen", "listen": "listen", "naem": "name", "burn": "turn", "trun": "turn", "--confg": "--config", "": "", "elephant": "", "x": "",
		"--x": "",
	} {
		if got := Nearest(wrong, known); got != want {
			t.Errorf("%q: %q, want %q", wrong, got, want)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("nothing is known, and %q is near", got)
	}
}
