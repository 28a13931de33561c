// Package mconsole is the server of the management console: a datagram socket in the umid directory, by which programs of
// the host ask about the guest and change it. It speaks protocol version 2 of the C implementation (package wire), so its
// client uml_mconsole works unchanged; package client is our own.
//
// # Requests
//
// Only the user who runs the guest, and root, are served: the host says who sends (SO_PASSCRED). A request is one line of text,
// whose command is found by its beginning, in the order of the table, as the C implementation does ("versionXYZ" is version).
// The requests of one client are served one after the other, those of different clients at the same time, so one that takes
// long or a client that does not read its answers keeps nobody else waiting. What comes too fast is refused.
//
// # What the C implementation does not have
//
// The commands exec, attach, status and json stand behind the others, so that nothing that worked means something else now.
// A client may pass descriptors with exec and attach, the last of them a stream by which it tells the size of its window and
// signals (control); one that does not know of that gets the same as text. "json <command>" gives
// an answer for programs: one JSON object with the fields "command", "error" (0, 1 or a negative errno), "message" (what went
// wrong), "text" (what people would see) and, for commands that have it, "data".
//
// # Lock order
//
// Server.mu, the queues of clients, is a leaf. freezeMu and sysrqMu are held over calls of the guest.
package mconsole
