package turn

import (
	"encoding/binary"

	"github.com/pion/stun/v3"
)

// refusalReasons are the phrases of RFC 8656 for the codes that correct uses.
var refusalReasons = map[stun.ErrorCode]string{
	stun.CodeBadRequest:             "Bad Request",
	stun.CodeForbidden:              "Forbidden",
	stun.CodeAddrFamilyNotSupported: "Address Family not Supported",
	stun.CodeWrongCredentials:       "Wrong Credentials",
	stun.CodeUnsupportedTransProto:  "Unsupported Transport Protocol",
	stun.CodePeerAddrFamilyMismatch: "Peer Address Family Mismatch",
	stun.CodeAllocQuotaReached:      "Allocation Quota Reached",
	stun.CodeInsufficientCapacity:   "Insufficient Capacity",
}

// correct returns what pion should have answered, nil when its answer is good.
// pion says 486 to whatever a quota handler refuses, 401 to a channel that it
// must not bind, so that clients doubt their credentials, and nothing at all to
// a refused permission.
func (f *front) correct(answer []byte) []byte {
	var t stun.MessageType
	t.ReadValue(binary.BigEndian.Uint16(answer))
	if t.Class != stun.ClassErrorResponse {
		return nil
	}
	code := f.refusal
	if code == 0 {
		given, ok := errorCode(answer)
		if given == stun.CodeStaleNonce {
			// It was not checked further, and costs what a guess does.
			f.refuseAuth(authNonce)
		}
		if ok {
			return nil
		}
		code = stun.CodeBadRequest
	}
	setters := []stun.Setter{
		stun.NewTransactionIDSetter([stun.TransactionIDSize]byte(answer[8:stunHeader])), t,
		stun.ErrorCodeAttribute{Code: code, Reason: []byte(refusalReasons[code])},
	}
	if f.key != nil {
		setters = append(setters, f.key)
	}
	m, err := stun.Build(setters...)
	if err != nil {
		return nil
	}
	return m.Raw
}

// errorCode reads the code of an error answer, if it has one.
func errorCode(answer []byte) (stun.ErrorCode, bool) {
	v, ok := attribute(answer, stun.AttrErrorCode)
	if !ok || len(v) < 4 {
		return 0, false
	}
	return stun.ErrorCode(int(v[2]&7)*100 + int(v[3])), true
}
