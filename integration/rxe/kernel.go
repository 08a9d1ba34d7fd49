package rxe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
)

// Offsets in a bzImage's setup header (Documentation/arch/x86/boot.rst).
const (
	bzSetupSects    = 0x1f1
	bzMagic         = 0x202
	bzPayloadOffset = 0x248
	bzPayloadLength = 0x24c
	bzSector        = 512
)

// vmlinux cuts the ELF kernel out of a bzImage. QEMU starts it by PVH, and the
// emulated CPU is spared the decompression.
func vmlinux(ctx context.Context, bz []byte) ([]byte, error) {
	if len(bz) < 0x250 || string(bz[bzMagic:bzMagic+4]) != "HdrS" {
		return nil, fmt.Errorf("rxe: the kernel is not a bzImage")
	}
	sects := int(bz[bzSetupSects])
	if sects == 0 {
		sects = 4
	}
	start := uint64((sects+1)*bzSector) + uint64(binary.LittleEndian.Uint32(bz[bzPayloadOffset:]))
	n := uint64(binary.LittleEndian.Uint32(bz[bzPayloadLength:]))
	if start+n > uint64(len(bz)) || n < 8 {
		return nil, fmt.Errorf("rxe: bzImage payload of %d bytes at %#x is outside the file", n, start)
	}
	payload := bz[start : start+n-4] // the last four bytes are the unpacked length
	var tool string
	for magic, t := range map[string]string{"\xfd7zXZ\x00": "xz", "\x1f\x8b": "gzip", "\x28\xb5\x2f\xfd": "zstd"} {
		if bytes.HasPrefix(payload, []byte(magic)) {
			tool = t
		}
	}
	if tool == "" {
		return nil, fmt.Errorf("rxe: bzImage payload starts with % x: unknown compression", payload[:6])
	}
	c := exec.CommandContext(ctx, tool, "-dc")
	c.Stdin = bytes.NewReader(payload)
	out, err := c.Output()
	if err != nil || !bytes.HasPrefix(out, []byte("\x7fELF")) {
		return nil, fmt.Errorf("rxe: %s of the kernel: %d bytes, %w", tool, len(out), err)
	}
	return out, nil
}
