package main

// A mutation replaces one piece of a source file by a wrong one.
type mutation struct {
	name     string
	rule     string // what it breaks; sections are those of docs/formats.md
	file     string
	old, new string // old is there once
	tests    string // the package whose tests must notice
	run      string // which of them
}

const (
	keysPkg  = "pkg/sync/keys"
	entryPkg = "pkg/sync/entry"
	groupPkg = "pkg/sync/group"
	foldPkg  = "pkg/sync/fold"
	syncPkg  = "pkg/sync"

	peerPkg      = "pkg/peer"
	linkPkg      = "pkg/peer/link"
	signalingPkg = "internal/signaling"
	turnPkg      = "internal/turn"
)

var table = concat(soundness, judging, rekeys, sharing, incremental, documents, admission, joining, keyTravel, sessions, servers, relays, links)

func concat(parts ...[]mutation) (all []mutation) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// What makes an operation or a change sound (section 5).
var soundness = []mutation{
	{"signature-of-operation", "an operation is signed by its grant's key", groupPkg + "/prove.go",
		"if !n.entry.VerifySignature(n.key()) {", "if false {", groupPkg, "^TestForgedOperations$"},
	{"signature-of-data", "a data change is signed by its grant's key", groupPkg + "/check.go",
		"case !e.VerifySignature(n.term.keys.Key()):", "case false:", groupPkg, "^TestForgedData$"},
	{"role-of-operation", "only who has the role writes an operation", groupPkg + "/check.go",
		"if !n.author.role.AtLeast(entry.Needs(n.entry.Op)) {", "if false {", groupPkg, "^TestWriterAdminInvite$"},
	{"role-of-data", "readers do not write data", groupPkg + "/check.go",
		"case !p.role.AtLeast(entry.Write):", "case false:", groupPkg, "^TestReaderWriteVoid$"},
	{"signer-holds-grant", "the signer is the grant's user", groupPkg + "/check.go",
		"if e.Signer != n.author.user {", "if false {", groupPkg, "^TestForgedOperations$"},
	{"self-certifying-user", "a user's id is the hash of the body", groupPkg + "/prove.go",
		"fits = op.User.ID() == op.UserID", "fits = true", groupPkg, "^TestForgedOperations$"},
	{"self-certifying-group", "a group's id is the hash of the body", groupPkg + "/prove.go",
		"fits = op.User.ID() == e.Signer && op.Group.ID() == e.Group", "fits = true", groupPkg, "^TestHistory11OneCreate$"},
	{"one-create", "a group's nonce binds its create", entryPkg + "/check.go",
		"case o.Group.Nonce != createNonce(e.ID, e.Dev, o.Keys, o.Name, o.Policy):", "case false:", groupPkg, "^TestHistory11OneCreate$"},
	{"time-of-operation", "an operation is later than what it builds on", groupPkg + "/check.go",
		"if l.nodes[r].entry.Modified >= e.Modified {", "if false {", groupPkg, "^TestForgedOperations$"},
	{"time-of-data", "data is not older than its grant", groupPkg + "/check.go",
		"case e.Modified < n.entry.Modified:", "case false:", groupPkg, "^TestHistory5DataBeforeItsGrant$"},
	{"chain-of-operations", "a chain is continued", groupPkg + "/check.go",
		"if n.prev.entry.As != e.As || n.prev.entry.Seq != e.Seq-1 {", "if false {", groupPkg, "^TestForgedOperations$"},
	{"chain-of-data", "a chain of data is continued", groupPkg + "/check.go",
		"case e.Seq > 0 && (prev.Hash != e.Prev || prev.As != e.As || prev.Seq != e.Seq-1):", "case false:", groupPkg, "^TestForgedData$"},
	{"senior-revokes", "only a senior names a grant to revoke", groupPkg + "/check.go",
		"case !n.author.rank.Senior(named.term.principal.rank):", "case false:", groupPkg, "^TestJuniorCannotRemoveSenior$"},
	{"key-of-role", "a role has the key of the grant that it names", groupPkg + "/check.go",
		"if op.Key != line.Key() {", "if false {", groupPkg, "^TestHistory7KeyOfRole$"},
	{"epoch-follows", "epochs follow those in the past", groupPkg + "/check.go",
		"if op.Epoch != n.epoch+1 {", "if false {", groupPkg, "^TestHistory6EpochFollowsPast$"},
	{"owner-deletes", "only the owner deletes", groupPkg + "/check.go",
		"if n.author.node.index != 0 {", "if false {", groupPkg, "^TestWriterAdminInvite$"},
	{"claim-once", "a claim is used once", groupPkg + "/check.go",
		`return "the claim was used before"`, `return ""`, groupPkg, "^TestInvitationRefusals$"},
	{"uses-of-invitation", "an invitation has so many uses", groupPkg + "/check.go",
		"if len(others) >= invite.Uses {", "if false {", groupPkg, "^TestInvitationRefusals$"},
	{"expiry-of-invitation", "an invitation expires", groupPkg + "/check.go",
		"case op.Claim.Time > invite.Expires || n.entry.Modified > invite.Expires:", "case false:", groupPkg, "^TestInvitationRefusals$"},
	{"role-of-invitation", "a claim wants at most the invitation's role", groupPkg + "/check.go",
		"case !invite.Role.AtLeast(op.Role):", "case false:", groupPkg, "^TestInvitationRefusals$"},
	{"claim-is-for-user", "a claim is bound to its user", entryPkg + "/check.go",
		"case c.Group != e.Group || c.UserID != o.UserID || c.Role != o.Role,", "case false,", groupPkg, "^TestInvitationRefusals$"},
	{"accept-has-no-past", "an accept drags nothing along", entryPkg + "/check.go",
		"if e.Seq != 0 || len(e.Deps) != 1 || e.Deps[0] != e.As {", "if false {", groupPkg, "^TestHistory4RemovedMemberFloodsNobody$"},
	{"deps-are-a-set", "deps are a sorted set", entryPkg + "/check.go",
		"s[i].IsZero() || i > 0 && s[i-1].Compare(s[i]) >= 0", "s[i].IsZero()", entryPkg, "^TestLimits$"},
	{"only-form", "an entry has one text", entryPkg + "/decode.go",
		"if !parts.equals(raw) {", "if false {", entryPkg, "^TestDecodeRefusesOtherShapes$"},
	{"newer-version-waits", "a newer version is not remembered as unsound", entryPkg + "/decode.go",
		`if w.Auth.V != nil && string(w.Auth.V) != "2" {`, "if false {", entryPkg, "^TestUnknownVersionsAreNotUnsound$"},
}

// Who counts, and what of it (section 6).
var judging = []mutation{
	{"rank-by-class", "admins are senior to others", groupPkg + "/rank.go",
		"cmp.Compare(r.Class, o.Class), ", "", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"rank-by-depth", "a grant's author is senior to it", groupPkg + "/rank.go",
		"cmp.Compare(r.Depth, o.Depth), ", "", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"consent", "nobody is a member without consent", groupPkg + "/principal.go",
		"return p.granted && p.accepted }", "return p.granted }", groupPkg, "^TestAddWithoutAcceptIsNoMember$"},
	{"consent-of-role", "a role inherits consent", groupPkg + "/principal.go",
		"	for ; p != nil; p = p.succeeds {\n		if p.accept != nil {", "	for ; p != nil; p = nil {\n		if p.accept != nil {", groupPkg, "^TestHistory1RoleInheritsConsent$"},
	{"removal-revokes", "what a removal hits must be covered", groupPkg + "/evaluate.go",
		"	collect(p.naming, nil)\n", "", groupPkg, "^TestRemovedBackdatedWriteVoid$"},
	{"block-hits-later", "a block hits later grants too", groupPkg + "/evaluate.go",
		"	collect(v.log.blocks[p.user], nil)\n", "", groupPkg, "^TestBlockHitsLaterGrants$"},
	{"leave-hits-successors", "a leave hits unknown successors", groupPkg + "/evaluate.go",
		"		collect(step.succeeds.leaves, step.node)\n", "", groupPkg, "^TestHistory2LeaveHitsLowerSuccessor$"},
	{"leave-spares-seniors", "a leave hits no more senior successor", groupPkg + "/evaluate.go",
		"|| !r.author.rank.Senior(p.rank) {", "{", groupPkg, "^TestIncrementalIsFull$"},
	{"known-step-is-spared", "a revocation spares the successors that its author knew", groupPkg + "/evaluate.go",
		"if step == nil || !v.log.past(r).has(step.index) {", "if true {", groupPkg, "^TestHistory10"},
	{"unknown-step-is-hit", "a revocation hits the successors that its author did not know", groupPkg + "/evaluate.go",
		"if step == nil || !v.log.past(r).has(step.index) {", "if step == nil {", groupPkg, "^TestHistory10"},
	{"frontier-covers", "a frontier covers what it names", groupPkg + "/evaluate.go",
		"return past.has(n.index) || named[n] }", "return past.has(n.index) }", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"past-covers", "what the remover knew stays", groupPkg + "/evaluate.go",
		"return past.has(n.index) || named[n] }", "return past.low < 0 || named[n] }", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"chain-is-covered", "a frontier covers what comes before in the chain", groupPkg + "/evaluate.go",
		"!named[n]; n = n.prev {", "!named[n]; n = nil {", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"nobody-covers-own", "a checkpoint saves entries of juniors only", groupPkg + "/evaluate.go",
		"func(s *node) bool { return s.author.rank.Senior(p.rank) })", "func(s *node) bool { return s != nil })", groupPkg, "^TestHistory12NobodyCoversOwnEntries$"},
	{"all-revocations", "an entry is covered by all revocations", groupPkg + "/evaluate.go",
		"return c.missing[i] == 0 || c.saved(i) }", "return c.missing[i] <= 1 || c.saved(i) }", groupPkg, "^TestRemovedBackdatedWriteVoid$"},
	{"leave-ends", "a leave revokes the leaver's later operations", groupPkg + "/evaluate.go",
		"	p.hits = append(p.hits, leaves...)\n", "", groupPkg, "^TestOwnerLeavesAndDeletes$"},
	{"data-saved-by-senior", "data is saved by seniors only", groupPkg + "/view.go",
		"ok && rank.Senior(g.Rank) && !yield(h)", "ok && (rank.Senior(g.Rank) || true) && !yield(h)", groupPkg, "^TestAgreesWithRules$"},
	{"data-covered-by-all", "data is covered by all revocations", groupPkg + "/view.go",
		"counts[h] == len(g.frontiers)", "counts[h] > 0", groupPkg, "^TestFrontierKeepsOldWrites$"},
	{"rotation-after-removal", "a removal makes a new rendezvous key due", groupPkg + "/bring.go",
		"if r.valid && !past.has(r.index) {", "if false {", groupPkg, "^TestRvKeyEpoch$"},
	{"last-name-stays", "the last name in the order (modified, hash) is the group's", groupPkg + "/log.go",
		"return cmp.Or(cmp.Compare(a.entry.Modified, b.entry.Modified), byHash(a, b))", "return byHash(a, b)", groupPkg, "^(TestAddWithoutAcceptIsNoMember|TestRekeyReplacesKey)$"},
}

// Keys of users, in their history and in groups (sections 2 and 6).
var rekeys = []mutation{
	{"class-decides-forks", "recovery beats quorum beats key", keysPkg + "/history.go",
		"cmp.Or(b.Class.Compare(a.Class), a.Hash.Compare(b.Hash))", "a.Hash.Compare(b.Hash)", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"key-class-freezes", "two events by the key freeze it", keysPkg + "/history.go",
		"if len(steps) > 1 && steps[0].Class.Compare(ByKey) <= 0 {", "if false {", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"class-decides-histories", "outside of groups as well", keysPkg + "/history.go",
		"cmp.Or(b.By.Compare(a.By), a.hash.Compare(b.hash))", "a.hash.Compare(b.hash)", keysPkg, "^TestForks$"},
	{"key-class-freezes-histories", "outside of groups as well", keysPkg + "/history.go",
		"if len(found) == 1 && (found[0].By != ByKey || found[0].hash == s.hash) {", "if len(found) == 1 {", keysPkg, "^TestForks$"},
	{"majority", "a quorum is a majority", keysPkg + "/state.go",
		"len(e.Signers()) < s.Quorum()", "len(e.Signers()) < 1", keysPkg, "^TestQuorumIsMajority$"},
	{"old-key-needs-list", "a device under an old key gets the new one only if it is on the list", syncPkg + "/keys_travel.go",
		"	case listed:", "	case true:", syncPkg, "^TestRevokedDeviceGetsNoKey$"},
	{"revoked-key-signs-nothing", "a revoked key is over", keysPkg + "/state.go",
		"case s.ended && (e.By == ByKey || e.Op == SetRecovery || e.Op == Revoke):", "case false:", keysPkg, "^TestRevokedKeySignsNothing$"},
	{"recovery-is-committed", "the recovery key is the one that was set", keysPkg + "/state.go",
		"return s.recovery != nil && peercrypto.Sum(sig.Pub[:]) == *s.recovery", "return s.recovery != nil", keysPkg, "^TestRefused$"},
	{"old-key-is-cut", "what the old key signed must be covered", groupPkg + "/principal.go",
		"for _, some := range signed[r.from:r.to] {", "for _, some := range signed[r.to:] {", groupPkg, "^TestRekeyReplacesKey$"},
	{"passed-key-is-cut", "a rekey replaces the keys that it passes over", groupPkg + "/principal.go",
		"for _, some := range signed[r.from:r.to] {", "for _, some := range signed[r.from : r.from+1] {", groupPkg, "^TestRekeyPassesOver$"},
	{"passed-key-is-cut-data", "for data too", groupPkg + "/principal.go",
		"return ok && r.from <= at && at < r.to", "return ok && r.from == at", groupPkg, "^TestRekeyPassesOver$"},
	{"later-keys-first", "who holds a later key covers first", groupPkg + "/principal.go",
		"return b.to - a.to })", "return a.to - b.to })", groupPkg, "^TestOldKeyRepeatsItsEvent$"},
	{"losing-key", "nothing counts under a key that lost", groupPkg + "/evaluate.go",
		"cover.holds(o.place) && p.line.holds(o.under.term)", "cover.holds(o.place)", groupPkg, "^(TestOneSolution|TestAgreesWithRules)$"},
	{"losing-key-data", "no data counts under a key that lost", groupPkg + "/view.go",
		"(!g.lost && counts[h]", "(counts[h]", groupPkg, "^TestRekeyByRecoveryBeatsThief$"},
	{"removal-reaches-keys", "a removal reaches all keys of a grant", groupPkg + "/evaluate.go",
		"func(r *node) bool { return !cover.holds(r.place) }", "func(r *node) bool { return false }", groupPkg, "^TestRemovalReachesAllKeys$"},
	{"leave-voids-no-rekey", "no leave voids a rekey", groupPkg + "/evaluate.go",
		"	for _, r := range p.hits {\n		cover.add(r)\n", "	for _, r := range append(p.leaves, p.hits...) {\n		cover.add(r)\n", groupPkg, "^TestLeaveVoidsNoRekey$"},
	{"events-are-proved", "a rekey's events are signed", groupPkg + "/prove.go",
		"if line, err = line.Apply(e); err != nil {", "if line, err = line.Follow(e); err != nil {", groupPkg, "^TestForgedRekeys$"},
}

// What travels (section 6).
var sharing = []mutation{
	{"past-travels", "the past of what is shared is shared", groupPkg + "/effects.go",
		"		for _, r := range n.refs {\n", "		for _, r := range n.refs[:0] {\n", groupPkg, "^TestHistory3PastTravels$"},
	{"accepts-travel", "the accept on which a grant rests is shared", groupPkg + "/effects.go",
		"if q.accept != nil && (before > 0) != (q.granting > 0) {", "if before < 0 {", groupPkg, "^TestHistory4"},
	{"named-travels", "what frontiers name is shared", groupPkg + "/effects.go",
		"if named := v.log.byHash[h]; named != nil && !v.isPending(named) {", "if named := v.log.byHash[h]; named != nil && false {", groupPkg, "^TestAgreesWithRules$"},
	{"smaller-signature", "of two signatures the smaller one stays", groupPkg + "/log.go",
		"if bytes.Compare(e.Signature[:], n.entry.Signature[:]) >= 0 {", "if bytes.Compare(e.Signature[:], n.entry.Signature[:]) <= 0 {", groupPkg, "^TestSmallestSignatureStays$"},
}

// What is judged again must be all that an operation concerns.
var incremental = []mutation{
	{"named-before-known", "a frontier may name what comes later", groupPkg + "/evaluate.go",
		"	case v.named[n.hash] > 0: // what it names may also cover those before n\n		v.queued(p)\n", "", groupPkg, "^TestIncrementalIsFull$"},
	{"successors-are-judged", "who succeeds is judged again too", groupPkg + "/effects.go",
		"		n.named.eachSuccessor(juniors)\n", "", groupPkg, "^(TestIncrementalIsFull|TestHistory10)"},
	{"saved-are-judged", "whom a checkpoint saves is judged again", groupPkg + "/effects.go",
		"			juniors(named.author)\n", "			_ = named\n", groupPkg, "^TestIncrementalIsFull$"},
	{"changed-grants", "changes name the grants that they concern", groupPkg + "/view.go",
		"if is == nil || was == nil || (*is).judgesDifferently(*was) {", "if is == nil || was == nil {", groupPkg, "^TestChangedIsComplete$"},
	{"changed-data", "changes name the data that they save", groupPkg + "/view.go",
		"if (is == nil) != (was == nil) {", "if false {", groupPkg, "^TestChangedIsComplete$"},
	{"engine-judges-changed", "the engine judges the data of changed grants", syncPkg + "/batch.go",
		"if _, known := old.Principal(h); known {", "if false {", syncPkg, "^(TestRemovedMembersDataReachesNewcomers|TestReplicasConverge|TestRemovedMemberStops)$"},
	{"engine-judges-no-more", "the engine judges the data of changed grants only", syncPkg + "/batch.go",
		"if _, known := old.Principal(h); known {", "if true {", syncPkg, "^TestOperationTouchesWhatItConcerns$"},
	{"engine-stores-changed", "the engine stores what an operation made valid or void", syncPkg + "/batch.go",
		"if stored && is == want {", "if stored {", syncPkg, "^(TestReplicasConverge|TestSessionsUnderChange)$"},
}

// How documents come about (section 7).
var documents = []mutation{
	{"order-of-changes", "changes apply in the order (modified, hash)", syncPkg + "/documents.go",
		"	slices.SortFunc(work.added, compareEntries)\n", "", syncPkg, "^TestReplicasConverge$"},
	{"late-change-refolds", "a change that comes late is put in its place", syncPkg + "/documents.go",
		"doc.Last.Compare(refOf(work.added[0])) < 0)", "true)", syncPkg, "^TestReplicasConverge$"},
	{"deleted-stays", "a path brings nothing back", foldPkg + "/state.go",
		"		s.root, s.deleted = nil, true\n		return\n", "		s.deleted = true\n		return\n", foldPkg, "^(TestLife|TestApply)$"},
	{"array-gap", "an index far beyond the end is ignored", foldPkg + "/node.go",
		"s.Index <= len(n.elems)+MaxIndexGap", "true", foldPkg, "^TestApply$"},
	{"element-becomes-null", "an array element that is removed becomes null", foldPkg + "/state.go",
		"		v = null\n", "		v = newLeaf([]byte(\"0\"))\n", foldPkg, "^TestApply$"},
	{"size-limit-undoes-all", "what is too large has no effect at all", foldPkg + "/state.go",
		"for i := len(s.undo) - 1; i >= 0; i-- {", "for i := len(s.undo) - 1; i > 0; i-- {", foldPkg, "^TestSizeLimit$"},
	{"own-id", "a root value has the subject's id", foldPkg + "/change.go",
		"case id != string(subject):", "case id == \"none\":", foldPkg, "^TestCheckChanges$"},
	{"own-group", "a root value has the change's group", foldPkg + "/change.go",
		"case of != string(group):", "case of == \"none\":", foldPkg, "^TestCheckChanges$"},
}

// What the engine lets in.
var admission = []mutation{
	{"log-is-signed", "a log that answers a join is signed", syncPkg + "/join_log.go",
		"errs[i] = p.log.ProveSignatures(p.fresh[i].ent)", "errs[i] = nil", syncPkg, "^TestJoinerChecksTheLog$"},
	{"ids-of-log", "and its ids are those of their bodies", syncPkg + "/join_log.go",
		"err := group.ProveIDs(it.ent); err != nil", "err := error(nil); err != nil", syncPkg, "^TestJoinedIDsAreBounded$"},
	{"members-only", "entries are taken from members only", syncPkg + "/ingest.go",
		"if err != nil || !e.shares(g.view.Load(), user) {", "if err != nil {", syncPkg, "^(TestStrangerIsRefused|TestRemovedMemberStops|TestIngestRefusals)$"},
	{"far-future", "what is dated far ahead is not remembered", syncPkg + "/batch.go",
		"case ahead > maxDeferred:", "case false:", syncPkg, "^TestFutureEntries$"},
	{"future-waits", "what is dated ahead waits", syncPkg + "/batch.go",
		"case ahead <= maxAhead:", "case true:", syncPkg, "^TestFutureEntries$"},
}
