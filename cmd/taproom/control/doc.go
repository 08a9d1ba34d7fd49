// Package control is how a running lab is spoken to: HTTP/1.1 with JSON over a
// unix socket, its server and a client.
//
//	c, err := control.Find("two-rooms")   // "" is the only one that runs
//	status, err := c.Status(ctx)
//
// # The socket
//
// Each lab has NAME.sock, NAME.pid and, when it runs in the background,
// NAME.log in Dir: $XDG_RUNTIME_DIR/taproom, else /run/taproom for root, else
// taproom-UID below the temporary directory. Folder and socket belong to the
// user and nobody else may open them; besides, the server asks the kernel for
// the peer's user (SO_PEERCRED) and hangs up on others than its own and root.
// The daemon holds a lock on NAME.pid as long as it lives, so that what a
// killed one left is told apart from a live one, and removed by Claim.
//
// # Endpoints
//
//	GET  /v1/version                     {"version": …}
//	GET  /v1/lab                         lab.Status
//	GET  /v1/rooms/{room}                lab.RoomStatus
//	POST /v1/plan      Apply             {"steps": ["+ room alice (namespace)", …]}
//	POST /v1/apply     Apply             a line of JSON for each Event, the last with done or error
//	POST /v1/down                        {} when everything is gone
//	POST /v1/impair    Impair            settings by direction (room:interface it leaves)
//	GET  /v1/capture?at=r1:eth0&at=…     pcapng, until the client hangs up; ?snap= and ?count= bound it
//	POST /v1/expect                      a line of JSON for each lab.Result
//	GET  /v1/exec?room=alice             upgrade to the exec protocol, see Frame
//
// An error is a status of 4xx or 5xx with {"error": "…"}. Subsystems add
// endpoints of their own with Register.
package control
