package lab

import (
	"context"
	"fmt"

	"taproom/stack/lab/spec"
)

// SectionUp makes a section of the lab file real. It runs when all rooms,
// links and routes are there, and again when the section changes, after the
// function it returned the last time has taken the old state away.
type SectionUp func(ctx context.Context, l *Lab, s spec.Section) (down func() error, err error)

var sectionUps = map[string]SectionUp{}

// RegisterSection makes a key at the top of lab files known, with what new
// returns for its content (see spec.RegisterSection) and up to make it real.
// It is for package initialisation only.
func RegisterSection(key, doc string, new func() spec.Section, up SectionUp) {
	spec.RegisterSection(key, doc, new)
	sectionUps[key] = up
}

func (l *Lab) addSection(ctx context.Context, name string, s spec.Section) error {
	up := sectionUps[name]
	if up == nil {
		return fmt.Errorf("nobody knows what to do with section %s", name)
	}
	down, err := up(ctx, l, s)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sections[name] = down
	return nil
}

func (l *Lab) removeSection(name string) error {
	l.mu.Lock()
	down := l.sections[name]
	delete(l.sections, name)
	l.mu.Unlock()
	if down == nil {
		return nil
	}
	return down()
}
