package link

import "fmt"

// A message on a stream is cut into fragments: one byte, fragMore or fragLast,
// and at most MaxFragment-1 bytes of content. A fragment that says more has
// content. The message ends with the one that says last. A side that closes a
// stream sends the byte fragEnd first: a channel that ends without it was given
// up in the middle, or the connection was lost, which the channel alone cannot
// tell from a proper end.
const (
	fragLast = 0
	fragMore = 1
	fragEnd  = 2
)

// assembler puts one stream's fragments together again.
type assembler struct {
	buf   []byte
	last  int  // length of the message before: the next one is often as long
	ended bool // fragEnd came
}

// expectMost bounds the room that is made for a message whose length is only
// expected.
const expectMost = 512 << 10

// add takes a fragment, which it does not keep, and returns the message that
// it completes; done is false while more is to come.
func (a *assembler) add(fragment []byte) (msg []byte, done bool, err error) {
	if a.ended || len(fragment) == 0 || len(fragment) > MaxFragment || fragment[0] > fragEnd {
		return nil, false, fmt.Errorf("%w: length or first byte, or after the end", ErrFragment)
	}
	if fragment[0] == fragEnd {
		if len(fragment) > 1 || len(a.buf) > 0 {
			return nil, false, fmt.Errorf("%w: end within a message", ErrFragment)
		}
		a.ended = true
		return nil, false, nil
	}
	body := fragment[1:]
	if len(body) == 0 && (fragment[0] == fragMore || len(a.buf) > 0) {
		return nil, false, fmt.Errorf("%w: empty", ErrFragment)
	}
	if len(a.buf)+len(body) > MaxMessage {
		return nil, false, fmt.Errorf("receiving message: %w: limit is %d bytes", ErrMessageTooLarge, MaxMessage)
	}
	if fragment[0] == fragMore {
		if a.buf == nil {
			a.buf = make([]byte, 0, max(len(body), min(a.last, expectMost)))
		}
		a.buf = append(a.buf, body...)
		return nil, false, nil
	}
	if a.buf == nil {
		return append(make([]byte, 0, len(body)), body...), true, nil
	}
	msg = append(a.buf, body...)
	a.buf, a.last = nil, len(msg)
	return msg, true, nil
}

// pending is how many bytes wait for the rest of their message.
func (a *assembler) pending() int { return len(a.buf) }

// fragments calls send for each fragment of msg, in dst's memory, which must
// hold MaxFragment bytes.
func fragments(dst, msg []byte, send func(fragment []byte) error) error {
	for {
		n := min(len(msg), MaxFragment-1)
		dst = append(dst[:0], fragLast)
		if n < len(msg) {
			dst[0] = fragMore
		}
		dst = append(dst, msg[:n]...)
		if err := send(dst); err != nil {
			return err
		}
		msg = msg[n:]
		if len(msg) == 0 {
			return nil
		}
	}
}
