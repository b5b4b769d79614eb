package turn

import "fmt"

// Live is what a running server can change.
type Live struct {
	// Secrets are as in Config. Credentials of a key that is no longer among
	// them open no relays, and relays that they opened can't be refreshed.
	// Empty: those that there are.
	Secrets []Secret
	// AllowPeers and DenyPeers are as in Config. Relays that are open follow
	// from their next packet on.
	AllowPeers, DenyPeers []string
}

// Reload changes a running server. An error means that nothing has changed.
func (s *Server) Reload(l Live) error {
	if err := validateSecrets(l.Secrets); err != nil {
		return fmt.Errorf("reloading turn: %w", err)
	}
	if err := s.setPolicy(l.AllowPeers, l.DenyPeers); err != nil {
		return fmt.Errorf("reloading turn: %w", err)
	}
	if len(l.Secrets) > 0 {
		s.minter.setSecrets(l.Secrets)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.relays {
		r.judged.Add(1) // what flows remember of peers no longer holds
	}
	return nil
}

func (s *Server) setPolicy(allow, deny []string) error {
	p, err := NewPolicy(PolicyConfig{
		Allow: allow, Deny: deny, Relay: s.relayAddresses(), RelayPorts: s.cfg.RelayPorts, Own: hostAddresses(),
	})
	if err != nil {
		return err
	}
	s.policy.Store(p)
	return nil
}
