package peer

import (
	"encoding/json"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// prepare gives a document its group, type and id.
func (im *importer) prepare(doc *importDoc) error {
	canonical, err := peercrypto.Canonicalize(doc.raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrImport, err)
	}
	var members map[string]json.RawMessage
	if canonical[0] != '{' {
		return fmt.Errorf("%w: it is no JSON object", ErrImport)
	}
	if err := json.Unmarshal(canonical, &members); err != nil {
		return fmt.Errorf("%w: %w", ErrImport, err)
	}
	// What an export from elsewhere says about these is not true here.
	for _, name := range []string{"group", "modified", "signer", "signature"} {
		delete(members, name)
	}
	typ, err := im.typeOf(members)
	if err != nil {
		return err
	}
	id, err := im.idOf(members, typ)
	if err != nil {
		return err
	}
	members["type"], members["id"] = quote(typ), quote(string(id))
	members["group"] = quote(string(im.group))
	doc.raw, err = peercrypto.MarshalCanonical(members)
	return err
}

func quote(s string) json.RawMessage {
	b, _ := json.Marshal(s) // a string always has a form
	return b
}

// typeOf returns the document's own type or the given one.
func (im *importer) typeOf(members map[string]json.RawMessage) (string, error) {
	raw, ok := members["type"]
	if !ok {
		if im.o.Type == "" {
			return "", fmt.Errorf("%w: it has no member \"type\": name one for all such documents (--type)", ErrImport)
		}
		return im.o.Type, nil
	}
	var typ string
	if err := json.Unmarshal(raw, &typ); err != nil || typ == "" {
		return "", fmt.Errorf("%w: its member \"type\" is no string that is not empty", ErrImport)
	}
	return typ, nil
}

// idOf derives the id of a document from its key, its own id or its content.
func (im *importer) idOf(members map[string]json.RawMessage, typ string) (peercrypto.ID, error) {
	if im.o.Key != "" {
		key, err := im.keyOf(members)
		if err != nil {
			return "", err
		}
		return ImportID(im.group, typ, key), nil
	}
	if raw, ok := members["id"]; ok {
		var text string
		if err := json.Unmarshal(raw, &text); err == nil {
			if id, err := peercrypto.ParseID(text); err == nil {
				return id, nil
			}
		}
		return "", fmt.Errorf("%w: its member \"id\" is no id of this system: make one from it (--key id)", ErrImport)
	}
	members["type"] = quote(typ)
	content, err := peercrypto.MarshalCanonical(members)
	if err != nil {
		return "", err
	}
	return ImportID(im.group, typ, peercrypto.Sum(content).String()), nil
}

// keyOf is the text of the key member.
func (im *importer) keyOf(members map[string]json.RawMessage) (string, error) {
	raw, ok := members[im.o.Key]
	if !ok {
		return "", fmt.Errorf("%w: it has no member %q, the key", ErrImport, im.o.Key)
	}
	var text string
	if err := json.Unmarshal(raw, &text); err == nil && text != "" {
		return text, nil
	}
	var number json.Number
	if err := json.Unmarshal(raw, &number); err == nil && number != "" && raw[0] != '"' {
		return number.String(), nil
	}
	return "", fmt.Errorf("%w: its member %q, the key, is neither a string nor a number", ErrImport, im.o.Key)
}
