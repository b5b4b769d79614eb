package main

// Who comes in, and with what.
var joining = []mutation{
	{"claim-of-who-asks", "a claim is used by the user whom it names", syncPkg + "/invite.go",
		"claim.UserID != p.UserID || ", "", syncPkg, "^TestForeignClaims$"},
	{"claim-by-key-of-who-asks", "a claim is signed by who uses it", syncPkg + "/invite.go",
		"claim.UserKey != p.UserKey ||", "", syncPkg, "^TestForeignClaims$"},
	{"claim-within-expiry", "a claim is not dated behind the invitation", syncPkg + "/invite.go",
		"open.Hash == invite.Hash && claim.Time <= op.Expires", "open.Hash == invite.Hash", syncPkg, "^TestForeignClaims$"},
	{"who-is-out-admits-nobody", "who left, or whose group is deleted, admits nobody", syncPkg + "/invite.go",
		"if !e.shares(v, e.userID) || v.state.Deleted() {", "if false {", syncPkg, "^TestWhoIsOutAdmitsNobody$"},
	{"requests-are-bounded", "so many requests of one group wait", syncPkg + "/invite.go",
		"if len(open) >= maxRequests {", "if false {", syncPkg, "^TestRequestsAreBounded$"},
	{"ids-of-logs-are-bounded", "so many ids are checked for one member", syncPkg + "/join_log.go",
		"if !own && !p.e.joined.covers(", "if false && !p.e.joined.covers(", syncPkg, "^TestJoinedIDsAreBounded$"},
	{"check-ends-with-the-join", "nobody checks for a join that was cancelled", syncPkg + "/join_log.go",
		"} else if p.join != nil && !p.e.waitsFor(p.group, p.join) {", "} else if false {", syncPkg, "^TestProofIsGivenUp$"},
	{"writer-derives-no-ids", "ids are derived outside of transactions", syncPkg + "/batch.go",
		"if it.claimsIDs() && !it.proven {", "if false {", syncPkg, "^TestIDsAreNotDerivedByTheWriter$"},
	{"void-and-named", "new data that something names is judged with all else", syncPkg + "/batch_data.go",
		"if b.state.Names(grant, it.ent.Hash) {", "if false {", syncPkg, "^TestVoidDataIsJudgedAlike$"},
	{"void-and-followed", "new data on which something builds is judged with all else", syncPkg + "/batch_data.go",
		"if err != nil || followed {", "if _ = followed; err != nil {", syncPkg, "^TestVoidDataThatWasForgotten$"},
	{"joins-are-bounded", "so many joins are pending", syncPkg + "/join.go",
		"if old == nil && n >= maxJoins {", "if false {", syncPkg, "^TestPendingJoinsAreBounded$"},
	{"offer-of-what-is", "a deleted group is not offered", syncPkg + "/join.go",
		"len(grants) == 0 || s.Deleted()", "len(grants) == 0", syncPkg, "^TestOffersThatAreNone$"},
	{"offer-is-sound", "an offered log is decoded to its end", syncPkg + "/join.go",
		"		return res.Errors[0].Err\n", "", syncPkg, "^TestOffersThatAreNone$"},
	{"declined-is-declined", "what was declined is not offered again", syncPkg + "/join.go",
		"string(declined) == o.Grant.String()", "string(declined) == \"x\"", syncPkg, "^TestDeclinedAndTooMany$"},
	{"offers-are-bounded", "so many offers wait", syncPkg + "/join.go",
		"if fresh && len(old) >= e.cfg.Limits.Offers {", "if false {", syncPkg, "^TestDeclinedAndTooMany$"},
	{"block-closes-invitations", "a block closes the invitations by which a user came", syncPkg + "/keys_admin.go",
		"if err := b.withdraw(user); err != nil {", "if err := error(nil); err != nil {", syncPkg, "^TestRemovedMemberHasTheLink$"},
	{"removal-closes-invitations", "a removal does, too", syncPkg + "/members.go",
		"if err := b.withdraw(user); err != nil {", "if err := error(nil); err != nil {", syncPkg, "^TestRemovedMemberHasTheLink$"},
}

// How keys get to the other devices of a user.
var keyTravel = []mutation{
	{"key-for-the-listed", "a device on the list gets the key, and no other", syncPkg + "/keys_travel.go",
		"if !k.History.State.Listed(d) || need.V != 1", "if need.V != 1", syncPkg, "^TestKeyIsGivenToListedDevicesOnly$"},
	{"key-for-who-signs", "a request for the key is signed by the device", syncPkg + "/keys_travel.go",
		" ||\n		!d.Key.VerifyPurpose(peercrypto.PurposeKeyRequest, need.unsigned(), need.Sig)", "", syncPkg, "^TestKeyIsGivenToListedDevicesOnly$"},
	{"key-from-who-is-asked", "a request for the key is for this device", syncPkg + "/keys_travel.go",
		" || need.To != s.e.deviceID", "", syncPkg, "^TestKeyIsGivenToListedDevicesOnly$"},
	{"needs-are-bounded", "a session answers so many requests", syncPkg + "/keys_travel.go",
		"s.loop.needs > maxNeeds {", "false {", syncPkg, "^TestKeyIsGivenToListedDevicesOnly$"},
	{"proposal-has-events", "an empty proposal is none", syncPkg + "/keys_propose.go",
		"if len(events) == 0 || len(events) > keys.MaxDevices {", "if len(events) > keys.MaxDevices {", syncPkg, "^TestOwnFramesOfStrangers$"},
	{"proposals-end", "a proposal waits for a month", syncPkg + "/keys_propose.go",
		" || e.now() > p.Since+proposedFor.Milliseconds()", "", syncPkg, "^TestProposalsAreBounded$"},
}

// What a session tells, and to whom.
var sessions = []mutation{
	{"told-no-more", "who is removed gets nothing more of a range", syncPkg + "/session_bulk.go",
		"if !s.mayTell(scope.Group, scope.Kind) {", "if false {", syncPkg, "^TestRemovedInTheMiddleOfARange$"},
	{"accept-of-who-waits", "with ACCEPT only a consent that is waited for comes in", syncPkg + "/session_misc.go",
		"!slices.Contains(v.state.Unaccepted(p.UserID), ent.As)", "ent.As.IsZero()", syncPkg, "^TestAcceptsThatAreNone$"},
	{"logs-are-bounded", "a session begins so many logs", syncPkg + "/session_logs.go",
		"if len(l.parts) >= maxOpenLogs && l.parts[f.group] == nil {", "if false {", syncPkg, "^TestSessionLimits$"},
	{"files-for-acquaintances", "strangers get no public file", peerPkg + "/filedoc.go",
		"if !p.knows(user) {", "if false {", peerPkg, "^TestFileForStranger$"},
}

// What the signaling server lets pass and keeps.
var servers = []mutation{
	{"memory-needs-token", "topics are given back for the token", signalingPkg + "/resume.go",
		"subtle.ConstantTimeCompare([]byte(rest.token.String()), []byte(token)) != 1", "token == \"\"", signalingPkg, "^TestMemoryNeedsKeyAndToken$"},
	{"memory-ends", "topics are given back for a time", signalingPkg + "/resume.go",
		"rest.key != m.deviceKey || !time.Now().Before(rest.until) ||", "rest.key != m.deviceKey ||", signalingPkg, "^TestMemoryNeedsKeyAndToken$"},
	{"memory-is-bounded", "so many topics are remembered", signalingPkg + "/resume.go",
		" && ms.tags+len(m.tags) <= most {", " {", signalingPkg, "^TestMemoriesAreBounded$"},
	{"memory-within-limits", "topics are given back within the limits of now", signalingPkg + "/resume.go",
		"len(tags) > room || len(tags) > h.live.Topics", "len(tags) > room", signalingPkg, "^TestMemoryWithinLimits$"},
	{"token-needs-certificate", "a session goes on with its own certificate", signalingPkg + "/resume.go",
		"!bytes.Equal(m.cert, auth.Cert.Canonical())", "bytes.Equal(nil, auth.Cert.Canonical())", signalingPkg, "^TestTokenIsBoundToCertificate$"},
	{"mail-of-a-device-is-bounded", "so much waits for one device", signalingPkg + "/mail.go",
		" || m.bytes+len(frame) > maxLetterBytes", "", signalingPkg, "^TestNotificationsTakeSoMuch$"},
	{"mail-is-bounded", "so much waits in all", signalingPkg + "/mail.go",
		"share || b.bytes+len(frame) > h.limits.NotifyBytes", "share", signalingPkg, "^TestNotificationsTakeSoMuch$"},
	{"mail-of-an-address-is-bounded", "one address fills a part of it", signalingPkg + "/mail.go",
		"share || b.bytes+len(frame) > h.limits.NotifyBytes", "share && !share || b.bytes+len(frame) > h.limits.NotifyBytes", signalingPkg, "^TestMailIsShared$"},
	{"mail-for-who-was-here", "who was here long ago gets no notification", signalingPkg + "/mail.go",
		" || !time.Now().Before(rest.until)", "", signalingPkg, "^TestNotifyWhoWasHereLongAgo$"},
	{"targets-are-bounded", "a session offers to so many devices", signalingPkg + "/offers.go",
		"			o.forget(now)\n		}\n		if len(o.pairs) >= maxOfferTargets {", "			o.forget(now)\n		}\n		if false {", signalingPkg, "^TestOfferTargetsAreBounded$"},
	{"block-during-login", "a block holds for who is just logging in", signalingPkg + "/handshake.go",
		"if refused == nil && s.blocked(c, auth) != nil {", "if false {", signalingPkg, "^TestBlockDuringLogin$"},
}

// What the relay passes.
var relays = []mutation{
	{"policy-inward", "the policy holds for what comes on a channel", turnPkg + "/forward_linux.go",
		"case !r.judge(d, &c.in, c.peer), !r.account", "case !r.account", turnPkg, "^TestPortOfNoRelay$"},
	{"policy-inward-indication", "and for what comes as an indication", turnPkg + "/forward_linux.go",
		"if !r.judge(d, &r.in, from) || !r.account(d, length, h.now) {", "if !r.account(d, length, h.now) {", turnPkg, "^TestPortOfNoRelay$"},
	{"policy-inward-portable", "also where pion forwards", turnPkg + "/relay.go",
		"if !r.judge(d, &r.in, from) || ", "if ", turnPkg, "^TestPortOfNoRelay$"},
	{"quota-inward", "what comes counts", turnPkg + "/forward_linux.go",
		", !r.account(d, length, h.now):", ":", turnPkg, "^TestInwardQuota$"},
	{"channels-are-bounded", "an allocation has so many channels", turnPkg + "/requests.go",
		" || !r.mayBind(binary.BigEndian.Uint16(v))", "", turnPkg, "^TestChannelsAreBounded$"},
	{"channel-needs-permission", "a channel does not outlive its permission", turnPkg + "/relay.go",
		"if !r.permitted(peer.Addr()) {", "if false {", turnPkg, "^TestExpiredPermission$"},
}

// Whom a link believes.
var links = []mutation{
	{"answer-of-the-dialled", "who answers is the user who was dialled", linkPkg + "/offer.go",
		"o.Cert.UserID != d.UserID || ", "", linkPkg, "^TestOfferVerify$"},
	{"answer-under-the-key", "under the key that was dialled", linkPkg + "/offer.go",
		" || o.Cert.UserKey != d.UserKey", "", linkPkg, "^TestOfferVerify$"},
	{"certificate-of-the-offer", "who authenticates is who made the offer", linkPkg + "/auth.go",
		" || c.UserID != e.UserID || c.UserKey != e.UserKey {", " {", linkPkg, "^TestHandshakeWrongPerson$"},
	{"fingerprint-of-the-offer", "the DTLS certificate is the one of the offer", linkPkg + "/auth.go",
		"if h.remoteFP != h.offeredFP {", "if false {", linkPkg, "^TestHandshakeSpliced$"},
	{"fingerprint-in-the-proof", "the proof is about the DTLS certificate that is there", linkPkg + "/auth.go",
		"t.A, t.B = side(mine, h.localFP), side(theirs, h.remoteFP)", "t.A, t.B = side(mine, h.localFP), side(theirs, \"\")", linkPkg, "^TestHandshake"},
	{"note-of-its-sender", "a notification is from the device in the frame", linkPkg + "/notify.go",
		"n.FromDevice != want.FromDevice || ", "", linkPkg, "^TestForgedNotifications$"},
}
