package main

import (
	"fmt"
	"strings"
)

// getopt reads arguments as getopt_long(3) does, with its words for mistakes:
// clustered short options, abbreviated long ones, values with = or in the next
// argument, operands between options. Programs that stand in for others must
// refuse what those refuse.

// option is one option, with its long name, its short letter, or both.
type option struct {
	long  string
	short byte
	value bool // takes one
	set   func(value string) error
}

// getopt calls set for each option and returns the operands. With ordered, the
// first operand ends the options.
func getopt(program string, options []option, args []string, ordered bool) (operands []string, err error) {
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			return append(operands, args...), nil
		case strings.HasPrefix(a, "--"):
			args, err = longOption(program, options, a[2:], args)
		case len(a) > 1 && a[0] == '-':
			args, err = shortOptions(program, options, a[1:], args)
		case ordered:
			return append(append(operands, a), args...), nil
		default:
			operands = append(operands, a)
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// usageError is a mistake after which the usage is shown.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func longOption(program string, options []option, a string, args []string) ([]string, error) {
	name, value, given := strings.Cut(a, "=")
	fail := func(format string, v ...any) ([]string, error) {
		return nil, usageError{program + ": " + fmt.Sprintf(format, v...)}
	}
	var hit *option
	var like []string
	for k := range options {
		o := &options[k]
		if o.long == name {
			hit, like = o, nil
			break
		}
		if o.long != "" && strings.HasPrefix(o.long, name) {
			hit = o
			like = append(like, "'--"+o.long+"'")
		}
	}
	switch {
	case len(like) > 1:
		return fail("option '--%s' is ambiguous; possibilities: %s", a, strings.Join(like, " "))
	case hit == nil:
		return fail("unrecognized option '--%s'", a)
	case !hit.value && given:
		return fail("option '--%s' doesn't allow an argument", hit.long)
	case hit.value && !given:
		if len(args) == 0 {
			return fail("option '--%s' requires an argument", hit.long)
		}
		value, args = args[0], args[1:]
	}
	return args, hit.set(value)
}

func shortOptions(program string, options []option, cluster string, args []string) ([]string, error) {
	for cluster != "" {
		c := cluster[0]
		cluster = cluster[1:]
		var hit *option
		for k := range options {
			if options[k].short == c {
				hit = &options[k]
			}
		}
		if hit == nil {
			return nil, usageError{fmt.Sprintf("%s: invalid option -- '%c'", program, c)}
		}
		value := ""
		if hit.value {
			switch {
			case cluster != "":
				value, cluster = cluster, ""
			case len(args) > 0:
				value, args = args[0], args[1:]
			default:
				return nil, usageError{fmt.Sprintf("%s: option requires an argument -- '%c'", program, c)}
			}
		}
		if err := hit.set(value); err != nil {
			return nil, err
		}
	}
	return args, nil
}
