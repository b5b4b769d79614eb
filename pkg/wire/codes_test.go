package wire_test

import (
	"testing"

	"github.com/peersignal/peersignal/pkg/wire"
)

func TestCloseCodes(t *testing.T) {
	for code := wire.CloseRefused; code <= wire.CloseKicked; code++ {
		again, after := code.Reconnect()
		if never := code == wire.CloseReplaced || code == wire.CloseProtocol; again == never {
			t.Errorf("%v: reconnect is %v", code, again)
		}
		if code.String() == "other" || (!again && after != 0) {
			t.Errorf("%d: %v, %v", code, code, after)
		}
	}
	if again, _ := wire.CloseCode(1006).Reconnect(); !again || wire.CloseCode(1006).String() != "other" {
		t.Error("an unknown status means reconnect")
	}
}

func TestRetry(t *testing.T) {
	for code, want := range map[wire.Code]bool{
		wire.CodeOK: false, wire.CodeNotAllowed: false, wire.CodeInvalid: false, wire.CodeBadSignature: false,
		wire.CodeUnknownName: false, wire.CodeReplaced: false, "new-code": false,
		wire.CodeOffline: true, wire.CodeRateLimited: true, wire.CodeServerFull: true, wire.CodeDraining: true,
	} {
		if code.Retry() != want {
			t.Errorf("%s: retry is %v", code, code.Retry())
		}
	}
}
