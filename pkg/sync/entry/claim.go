package entry

import (
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// ErrClaim is matched by the refusals of a claim.
var ErrClaim = errors.New("invalid claim")

// Claim is a joiner's proof of an invitation's secret, and consent to
// membership with a role.
type Claim struct {
	Group    peercrypto.ID        `json:"g"`
	Create   peercrypto.Hash      `json:"c"`       // the create operation
	IPK      peercrypto.PublicKey `json:"ipk"`     // the invitation's key
	UserID   peercrypto.ID        `json:"userId"`  // the joiner
	Genesis  peercrypto.Hash      `json:"genesis"` // hash of the joiner's body
	UserKey  peercrypto.PublicKey `json:"userKey"`
	DeviceID peercrypto.ID        `json:"deviceId"`
	Role     Role                 `json:"role"`
	Time     int64                `json:"time"` // unix ms
	SigI     peercrypto.Signature `json:"sigI"` // by the invitation's key
	SigU     peercrypto.Signature `json:"sigU"` // by the user's key
}

// SignClaim fills IPK and UserKey from the keys and signs with both.
func SignClaim(invite, user peercrypto.SigningKey, c Claim) (Claim, error) {
	c.IPK, c.UserKey = invite.Public(), user.Public()
	unsigned, err := c.canonical()
	if err != nil {
		return Claim{}, fmt.Errorf("signing a claim: %w", err)
	}
	c.SigI = invite.SignPurpose(peercrypto.PurposeInviteKey, unsigned)
	c.SigU = user.SignPurpose(peercrypto.PurposeInviteClaim, unsigned)
	if err := c.Verify(); err != nil {
		return Claim{}, fmt.Errorf("signing a claim: %w", err)
	}
	return c, nil
}

// ParseClaim reads a claim in canonical form and verifies it.
func ParseClaim(raw []byte) (Claim, error) {
	var c Claim
	if err := peercrypto.UnmarshalStrict(raw, &c); err != nil {
		return Claim{}, fmt.Errorf("parsing a claim: %w: %w", ErrClaim, err)
	}
	again, err := peercrypto.MarshalCanonical(c)
	if err != nil || string(again) != string(raw) {
		return Claim{}, fmt.Errorf("parsing a claim: %w: not in its only form", ErrClaim)
	}
	if err := c.Verify(); err != nil {
		return Claim{}, fmt.Errorf("parsing a claim: %w", err)
	}
	return c, nil
}

// Canonical returns the bytes that are sent; ParseClaim reverses it.
func (c Claim) Canonical() ([]byte, error) { return peercrypto.MarshalCanonical(c) }

// Verify checks the shape and both signatures. That they agree with a group, an
// invitation and a user is checked with the operation that holds the claim.
func (c Claim) Verify() error {
	if reason := c.fault(); reason != "" {
		return fmt.Errorf("%w: %s", ErrClaim, reason)
	}
	unsigned, err := c.canonical()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrClaim, err)
	case !c.IPK.VerifyPurpose(peercrypto.PurposeInviteKey, unsigned, c.SigI):
		return fmt.Errorf("%w: it is not signed with the invitation", ErrClaim)
	case !c.UserKey.VerifyPurpose(peercrypto.PurposeInviteClaim, unsigned, c.SigU):
		return fmt.Errorf("%w: it is not signed by the user", ErrClaim)
	}
	return nil
}

// Hash names the claim whatever its signatures are.
func (c Claim) Hash() peercrypto.Hash {
	unsigned, err := c.canonical()
	if err != nil {
		return peercrypto.Hash{} // only texts that are not UTF-8, which Verify refuses
	}
	return peercrypto.Sum(unsigned)
}

// canonical leaves the signatures out.
func (c Claim) canonical() ([]byte, error) {
	raw, err := peercrypto.MarshalCanonical(c)
	if err != nil {
		return nil, err
	}
	return peercrypto.RemoveMember(raw, "sigI", "sigU")
}

func (c Claim) fault() string {
	switch {
	case !isID(c.Group) || !isID(c.UserID) || !isID(c.DeviceID):
		return "an id of the claim is malformed"
	case c.Create.IsZero() || c.Genesis.IsZero() || c.IPK.Check() != nil || c.UserKey.Check() != nil:
		return "a hash or key of the claim is missing"
	case !c.Role.Valid():
		return "the claim's role is unknown"
	case c.Time < MinModified || c.Time > MaxModified:
		return "the claim's time is out of range"
	}
	return ""
}
