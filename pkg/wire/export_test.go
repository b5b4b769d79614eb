package wire

// The scanner and the plain decoder of signals, which must agree.

// ScanSignal is the fast decoder; false means that it leaves frame to the other.
func ScanSignal(frame []byte, client bool) (*Signal, bool) {
	return scanSignal(frame, direction(client))
}

// PlainSignal is the decoder for every spelling.
func PlainSignal(frame []byte, client bool) (*Signal, error) {
	decode := decodeServerSignal
	if client {
		decode = decodeClientSignal
	}
	m, err := decode(frame)
	if err != nil {
		return nil, err
	}
	return m, m.validate()
}
