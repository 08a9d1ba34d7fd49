#include "textflag.h"
#include "go_asm.h"

// func enter(s *State)
//
// Saves Go's stack and frame pointers in the State, loads the registers of the program
// (see package amd64) and goes to where the State says. Native code comes back by
// restoring both pointers and returning. No Go code runs meanwhile, and signal handlers
// have a stack of their own.
TEXT ·enter(SB), NOSPLIT|NOFRAME, $0-8
	MOVQ 8(SP), R12
	MOVQ SP, State_GoSP(R12)
	MOVQ BP, State_GoBP(R12)
	MOVQ (State_Regs+0)(R12), AX
	MOVQ (State_Regs+8)(R12), DI
	MOVQ (State_Regs+16)(R12), SI
	MOVQ (State_Regs+24)(R12), DX
	MOVQ (State_Regs+32)(R12), CX
	MOVQ (State_Regs+40)(R12), R8
	MOVQ (State_Regs+48)(R12), BX
	MOVQ (State_Regs+56)(R12), R13
	MOVQ (State_Regs+64)(R12), R14
	MOVQ (State_Regs+72)(R12), R15
	MOVQ (State_Regs+80)(R12), BP
	MOVQ State_Budget(R12), R9
	MOVQ State_SP(R12), SP
	MOVQ State_Resume(R12), R11
	JMP  R11
