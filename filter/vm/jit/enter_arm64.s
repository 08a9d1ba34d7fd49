#include "textflag.h"
#include "go_asm.h"

// func enter(s *State)
//
// Keeps the return address in the State, loads the registers of the program (see package
// arm64) and goes to where the State says. Native code comes back by returning to that
// address; it leaves the stack pointer, g and the frame pointer alone.
TEXT ·enter(SB), NOSPLIT|NOFRAME, $0-8
	MOVD s+0(FP), R26
	MOVD R30, State_GoSP(R26)
	MOVD (State_Regs+0)(R26), R7
	MOVD (State_Regs+8)(R26), R0
	MOVD (State_Regs+16)(R26), R1
	MOVD (State_Regs+24)(R26), R2
	MOVD (State_Regs+32)(R26), R3
	MOVD (State_Regs+40)(R26), R4
	MOVD (State_Regs+48)(R26), R19
	MOVD (State_Regs+56)(R26), R20
	MOVD (State_Regs+64)(R26), R21
	MOVD (State_Regs+72)(R26), R22
	MOVD (State_Regs+80)(R26), R23
	MOVD (State_Regs+88)(R26), R30
	MOVD State_Budget(R26), R25
	MOVD State_SP(R26), R24
	MOVD State_Resume(R26), R9
	JMP  (R9)
