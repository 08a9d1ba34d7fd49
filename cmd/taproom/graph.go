package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
)

func init() {
	register(func(a *app) *cobra.Command {
		var format string
		c := &cobra.Command{
			Use:     "graph [FILE]",
			GroupID: groupLook,
			Short:   "Draw a lab as Mermaid or DOT",
			Long:    "Draw the lab of a file, or the one that is up, as text for Mermaid or Graphviz.",
			Example: "  taproom graph examples/two-rooms.yaml\n  taproom graph --format dot | dot -Tsvg > lab.svg",
			Args:    cobra.MaximumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				draw, ok := map[string]func(io.Writer, picture){"mermaid": drawMermaid, "dot": drawDOT}[format]
				if !ok {
					return fmt.Errorf("format %q: mermaid or dot", format)
				}
				p, err := a.picture(c, args)
				if err != nil {
					return err
				}
				draw(c.OutOrStdout(), p)
				return nil
			},
		}
		c.Flags().StringVarP(&format, "format", "f", "mermaid", "mermaid or dot")
		return c
	})
}

// picture is what a drawing shows.
type picture struct {
	name  string
	rooms []pictureRoom
	edges []pictureEdge
}

type pictureRoom struct {
	name string
	kind spec.Kind
}

type pictureEdge struct {
	ends  [2]spec.Endpoint
	first [2]string // address of each end, if it has one
	words string    // settings
}

func (a *app) picture(c *cobra.Command, args []string) (picture, error) {
	if len(args) == 1 {
		file, err := spec.ParseFile(args[0])
		if err != nil {
			return picture{}, err
		}
		return pictureOfFile(file)
	}
	client, err := a.client()
	if err != nil {
		return picture{}, err
	}
	s, err := client.Status(c.Context())
	if err != nil {
		return picture{}, err
	}
	p := picture{name: s.Name}
	address := map[string]string{}
	for _, r := range s.Rooms {
		p.rooms = append(p.rooms, pictureRoom{r.Name, r.Kind})
		for _, i := range r.Interfaces {
			if g := globalOnly(i.Addresses); len(g) > 0 {
				address[r.Name+":"+i.Name] = g[0]
			}
		}
	}
	for _, k := range s.Links {
		p.edges = append(p.edges, pictureEdge{k.Ends, [2]string{address[k.Ends[0].String()], address[k.Ends[1].String()]},
			settingsOf(k.Directions[0].Settings, k.Directions[1].Settings)})
	}
	return p, nil
}

func pictureOfFile(file *spec.Lab) (picture, error) {
	r, err := plan.Resolve(file, nil)
	if err != nil {
		return picture{}, err
	}
	p := picture{name: file.Name}
	for _, res := range r.Resources {
		if room, ok := res.(plan.Room); ok {
			p.rooms = append(p.rooms, pictureRoom{room.Name, room.Kind})
		}
	}
	for i := range file.Links {
		k := &file.Links[i]
		imp := k.Impairments()
		e := pictureEdge{ends: [2]spec.Endpoint{k.Ends[0].At, k.Ends[1].At}, words: settingsOf(spec.Words(imp[0]), spec.Words(imp[1]))}
		for d, at := range e.ends {
			if a := r.Addresses[at]; len(a) > 0 {
				e.first[d] = a[0].String()
			}
		}
		p.edges = append(p.edges, e)
	}
	return p, nil
}

func settingsOf(forward, backward string) string {
	switch {
	case forward == "plain" && backward == "plain":
		return ""
	case forward == backward:
		return forward
	}
	return "→ " + forward + ", ← " + backward
}

// id makes a name fit for both languages.
func id(room string) string {
	return "n_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, room)
}

func drawMermaid(w io.Writer, p picture) {
	fmt.Fprintf(w, "---\ntitle: %s\n---\nflowchart LR\n", p.name)
	for _, r := range p.rooms {
		if r.kind == spec.Router {
			fmt.Fprintf(w, "  %s((\"%s\"))\n", id(r.name), r.name)
		} else {
			fmt.Fprintf(w, "  %s[\"%s\"]\n", id(r.name), r.name)
		}
	}
	for _, e := range p.edges {
		label := fmt.Sprintf("%s %s — %s %s", e.ends[0].Interface, e.first[0], e.ends[1].Interface, e.first[1])
		if e.words != "" {
			label += "<br/>" + e.words
		}
		fmt.Fprintf(w, "  %s ---|\"%s\"| %s\n", id(e.ends[0].Room), label, id(e.ends[1].Room))
	}
}

func drawDOT(w io.Writer, p picture) {
	fmt.Fprintf(w, "graph %q {\n  rankdir=LR\n", p.name)
	for _, r := range p.rooms {
		shape := "box"
		if r.kind == spec.Router {
			shape = "ellipse"
		}
		fmt.Fprintf(w, "  %s [label=%q, shape=%s]\n", id(r.name), r.name, shape)
	}
	for _, e := range p.edges {
		fmt.Fprintf(w, "  %s -- %s [label=%q, taillabel=%q, headlabel=%q]\n", id(e.ends[0].Room), id(e.ends[1].Room), e.words,
			e.ends[0].Interface+"\n"+e.first[0], e.ends[1].Interface+"\n"+e.first[1])
	}
	fmt.Fprintln(w, "}")
}
