//go:build !linux

package wire

import "errors"

func newTimerFD(Clock, func()) (Alarm, error) { return nil, errors.ErrUnsupported }
