package mconsole

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"

	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// request is a command of a client, and its answer on the way there: text that is written goes out in packets, and done sends
// the last one.
type request struct {
	s     *Server
	from  address
	pid   int // of the client
	line  string
	arg   string // what follows the command
	files []*os.File

	out  []byte // less than a packet
	gone error  // the client does not take any more
	over bool   // the last packet was sent

	// For answers in JSON everything is collected first.
	collect *bytes.Buffer
	answer  answer
}

// answer is the object that json sends.
type answer struct {
	Command string `json:"command"`
	Error   int32  `json:"error"`
	Message string `json:"message"`
	Text    string `json:"text"`
	Data    any    `json:"data,omitempty"`
}

func (r *request) close() {
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}

// packet sends one packet.
func (r *request) packet(p wire.Reply) error {
	if r.gone == nil {
		r.gone = r.s.send(p.Encode(), &r.from)
	}
	return r.gone
}

// maxCollected bounds an answer in JSON.
const maxCollected = 4 << 20

// Write adds text to the answer. NULs, which end texts on the wire, become spaces. An error says that the client has gone.
func (r *request) Write(p []byte) (int, error) {
	if r.collect != nil {
		r.collect.Write(p[:min(len(p), maxCollected-r.collect.Len())])
		return len(p), nil
	}
	r.out = append(r.out, bytes.ReplaceAll(p, []byte{0}, []byte{' '})...)
	for len(r.out) >= wire.MaxData-1 {
		if err := r.packet(wire.Reply{More: true, Text: string(r.out[:wire.MaxData-1])}); err != nil {
			return 0, err
		}
		r.out = r.out[wire.MaxData-1:]
	}
	return len(p), nil
}

// flush sends what was written so far as a packet of its own.
func (r *request) flush() error {
	if r.collect != nil || len(r.out) == 0 {
		return r.gone
	}
	text := string(r.out)
	r.out = r.out[:0]
	return r.packet(wire.Reply{More: true, Text: text})
}

// done ends the answer: nil is success. Only the first call counts.
func (r *request) done(err error) {
	if r.over {
		return
	}
	r.over = true
	text := ""
	if err != nil {
		text = err.Error()
	}
	if r.collect != nil {
		r.answer.Error, r.answer.Message, r.answer.Text = number(err), text, r.collect.String()
		return
	}
	if err != nil {
		_ = r.flush()
	} else {
		text = string(r.out)
	}
	_ = r.packet(wire.Reply{Err: number(err), Text: text})
}

// reply answers with a text.
func (r *request) reply(text string) {
	_, _ = r.Write([]byte(text)) // done meets the same error
	r.done(nil)
}

// data is what an answer in JSON has for programs.
func (r *request) data(v any) { r.answer.Data = v }

// inJSON serves the command in r.arg and answers with a JSON object.
func (s *Server) inJSON(r *request) {
	sub := &request{s: s, from: r.from, pid: r.pid, line: strings.TrimLeft(r.arg, " \t"), files: r.files, collect: new(bytes.Buffer)}
	if sub.line == "" || strings.HasPrefix(sub.line, "json") {
		r.done(errUnknown)
		return
	}
	sub.answer.Command = sub.line
	// Some commands end the guest once they have answered.
	after := s.run(sub)
	sub.done(nil)
	text, err := json.Marshal(&sub.answer)
	if err != nil {
		r.done(err)
	} else {
		r.reply(string(text))
	}
	if after != nil {
		after()
	}
}
