#include "textflag.h"

// func flushInstructions(mem []byte)
//
// Writes the data cache back and drops the instruction cache for the range, line by
// line (Arm ARM, B2.4.4). 64-byte lines are assumed at the least: smaller ones are
// covered by stepping over 16 bytes.
TEXT ·flushInstructions(SB), NOSPLIT, $0-24
	MOVD mem_base+0(FP), R0
	MOVD mem_len+8(FP), R1
	ADD  R0, R1, R1
	MOVD R0, R2
clean:
	CMP  R1, R2
	BHS  cleaned
	WORD $0xd50b7b22 // DC CVAU, R2
	ADD  $16, R2
	B    clean
cleaned:
	DSB  $11
	MOVD R0, R2
drop:
	CMP  R1, R2
	BHS  dropped
	WORD $0xd50b7522 // IC IVAU, R2
	ADD  $16, R2
	B    drop
dropped:
	DSB  $11
	ISB  $15
	RET
