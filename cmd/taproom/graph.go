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
				if a.json {
					return printJSON(c.OutOrStdout(), p)
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
	Name  string        `json:"name"`
	Rooms []pictureRoom `json:"rooms"`
	Links []pictureLink `json:"links"`
}

type pictureRoom struct {
	Name string    `json:"name"`
	Kind spec.Kind `json:"kind"`
}

type pictureLink struct {
	Ends     [2]spec.Endpoint `json:"ends"`
	First    [2]string        `json:"addresses"` // of each end, if it has one
	Settings string           `json:"settings,omitempty"`
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
	p := picture{Name: s.Name}
	address := map[string]string{}
	for _, r := range s.Rooms {
		p.Rooms = append(p.Rooms, pictureRoom{r.Name, r.Kind})
		for _, i := range r.Interfaces {
			if g := globalOnly(i.Addresses); len(g) > 0 {
				address[r.Name+":"+i.Name] = g[0]
			}
		}
	}
	for _, k := range s.Links {
		p.Links = append(p.Links, pictureLink{k.Ends, [2]string{address[k.Ends[0].String()], address[k.Ends[1].String()]},
			settingsOf(k.Directions[0].Settings, k.Directions[1].Settings)})
	}
	return p, nil
}

func pictureOfFile(file *spec.Lab) (picture, error) {
	r, err := plan.Resolve(file, nil)
	if err != nil {
		return picture{}, err
	}
	p := picture{Name: file.Name}
	for _, res := range r.Resources {
		if room, ok := res.(plan.Room); ok {
			p.Rooms = append(p.Rooms, pictureRoom{room.Name, room.Kind})
		}
	}
	for i := range file.Links {
		k := &file.Links[i]
		imp := k.Impairments()
		e := pictureLink{Ends: [2]spec.Endpoint{k.Ends[0].At, k.Ends[1].At}, Settings: settingsOf(spec.Words(imp[0]), spec.Words(imp[1]))}
		for d, at := range e.Ends {
			if a := r.Addresses[at]; len(a) > 0 {
				e.First[d] = a[0].String()
			}
		}
		p.Links = append(p.Links, e)
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
	fmt.Fprintf(w, "---\ntitle: %s\n---\nflowchart LR\n", p.Name)
	for _, r := range p.Rooms {
		if r.Kind == spec.Router {
			fmt.Fprintf(w, "  %s((\"%s\"))\n", id(r.Name), r.Name)
		} else {
			fmt.Fprintf(w, "  %s[\"%s\"]\n", id(r.Name), r.Name)
		}
	}
	for _, e := range p.Links {
		label := fmt.Sprintf("%s %s — %s %s", e.Ends[0].Interface, e.First[0], e.Ends[1].Interface, e.First[1])
		if e.Settings != "" {
			label += "<br/>" + e.Settings
		}
		fmt.Fprintf(w, "  %s ---|\"%s\"| %s\n", id(e.Ends[0].Room), label, id(e.Ends[1].Room))
	}
}

func drawDOT(w io.Writer, p picture) {
	fmt.Fprintf(w, "graph %q {\n  rankdir=LR\n", p.Name)
	for _, r := range p.Rooms {
		shape := "box"
		if r.Kind == spec.Router {
			shape = "ellipse"
		}
		fmt.Fprintf(w, "  %s [label=%q, shape=%s]\n", id(r.Name), r.Name, shape)
	}
	for _, e := range p.Links {
		fmt.Fprintf(w, "  %s -- %s [label=%q, taillabel=%q, headlabel=%q]\n", id(e.Ends[0].Room), id(e.Ends[1].Room), e.Settings,
			e.Ends[0].Interface+"\n"+e.First[0], e.Ends[1].Interface+"\n"+e.First[1])
	}
	fmt.Fprintln(w, "}")
}
