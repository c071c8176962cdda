package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
)

// Values of service keys from which random files are made. Each is valid by itself.
var values = map[string][]string{
	"image":             {"a", "b:1", `"${TAG:-x}"`},
	"command":           {"one two", `["a", "b c"]`, "[]", "null", `echo "a b" 'c'`},
	"entrypoint":        {"/e", `["/e", "-x"]`, "null"},
	"environment":       {"{A: 1, B: two}", "[A=2, C=3]", "{B: , D: x}", "[TAG, E=$TAG]", "[A=b=c]"},
	"labels":            {"{a: b}", "[a=c, d]", "{e: 1.5}"},
	"annotations":       {"{a: b}", "[a=c]"},
	"ports":             {`["80:80"]`, `["80:80", "81"]`, `[{target: 80, published: "8080"}]`, `["90-92:90-92/udp"]`, "[91]", `["127.0.0.1:80:80"]`},
	"expose":            {`["1"]`, `["1", "2-3"]`, `["4/udp"]`},
	"volumes":           {`["vol:/a"]`, `["./d:/a:ro", "/anon"]`, `[{type: tmpfs, target: /a}]`, `["wol:/b", "vol:/c/"]`, `[{type: bind, source: ./d, target: /b}]`},
	"tmpfs":             {"/t1", "[/t2, /t1]"},
	"depends_on":        {"[b]", "{b: {condition: service_healthy}}", "{c: {condition: service_started, required: false, restart: true}}", "[b, c]"},
	"networks":          {"[n]", "{n: {aliases: [x]}}", "{m: , n: {aliases: [y]}}", "{m: {priority: 3}}"},
	"healthcheck":       {"{test: [CMD, a]}", "{test: b c, interval: 3s}", "{retries: 3, timeout: 1m30s}", "{disable: true}"},
	"logging":           {"{driver: d, options: {a: b}}", "{options: {c: d}}", "{driver: e}"},
	"dns":               {"1.1.1.1", "[1.1.1.1, 2.2.2.2]"},
	"dns_search":        {"a", "[b, a]"},
	"extra_hosts":       {`["a:1.1.1.1"]`, "{a: 2.2.2.2, b: 1.1.1.1}", `["c=3.3.3.3"]`},
	"cap_add":           {"[A]", "[B, A]"},
	"devices":           {`["/dev/a"]`, `["/dev/a:/dev/b"]`, `["/dev/c:/dev/b:r"]`},
	"sysctls":           {"{a: 1}", "[a=2, b=3]"},
	"ulimits":           {"{nofile: 1}", "{nofile: {soft: 1, hard: 2}, nproc: 3}", "{nofile: {soft: 5, hard: 6}}"},
	"deploy":            {"{replicas: 1}", "{resources: {limits: {memory: 1g}}}", "{resources: {limits: {cpus: '0.5'}, reservations: {memory: 1m}}}", "{labels: [a=b]}", "{labels: {a: c}, mode: replicated}"},
	"build":             {"./d", "{context: ./d, args: [A=1]}", "{args: {A: 2, B: }, target: t}", "{dockerfile: X, labels: [l=1]}", "{additional_contexts: {x: ./d}, tags: [q]}"},
	"env_file":          {"e1.env", "[e1.env, e2.env]", "[{path: e2.env}, {path: none.env, required: false}]"},
	"secrets":           {"[s]", "[{source: s, target: x, mode: 0400}]", "[t, s]"},
	"configs":           {"[c]", "[{source: c, target: /x}]"},
	"profiles":          {"[p]", "[q, p]"},
	"restart":           {"always", "on-failure:3", `"no"`},
	"user":              {"root", `"1:2"`},
	"init":              {"true", "false"},
	"stop_grace_period": {"3s", "1m"},
	"security_opt":      {"[a:b]", "[c:d, a:b]"},
	"links":             {"[b]", `["b:x"]`, `["c", "b:y"]`},
	"working_dir":       {"/w"},
	"group_add":         {"[a]", "[a, 5]"},
	"develop":           {"{watch: [{path: ./d, action: rebuild}]}"},
}

const top = `
volumes: {vol: , wol: {labels: [a=b]}}
networks: {n: , m: {internal: true}}
secrets: {s: {environment: TAG}, t: {file: ./d/f}}
configs: {c: {content: "$TAG"}}
`

// Variables that `.env` may have: set, set to nothing, with spaces around what it is, and not there.
var variables = []string{"TAG", "EMPTY", "SPACED", "NONE"}

// A form of interpolation, nested at most so deep. What needs a value that is not there is seldom: both sides refuse it.
func expression(random *rand.Rand, depth int) string {
	name := variables[random.Intn(len(variables))]
	inner := func() string {
		if depth > 0 && random.Intn(2) == 0 {
			return expression(random, depth-1)
		}
		return []string{"", "d", "two words", "a-b", "x:y", "/p/q?r=s", "$$", "a+b"}[random.Intn(8)]
	}
	switch random.Intn(10) {
	case 0:
		return "$" + name
	case 1:
		return "${" + name + "}"
	case 2, 3:
		return "${" + name + ":-" + inner() + "}"
	case 4:
		return "${" + name + "-" + inner() + "}"
	case 5, 6:
		return "${" + name + ":+" + inner() + "}"
	case 7:
		return "${" + name + "+" + inner() + "}"
	case 8:
		if random.Intn(10) > 0 {
			name = "TAG"
		}
		return "${" + name + []string{":?", "?"}[random.Intn(2)] + "needed}"
	default:
		return []string{"$$", "$${" + name + "}", "$$" + name}[random.Intn(3)]
	}
}

// A text of expressions and what stands between them, as YAML.
func interpolated(random *rand.Rand) string {
	text := ""
	for range 1 + random.Intn(3) {
		text += []string{"", "a", "-", " ", "b/"}[random.Intn(5)] + expression(random, 2)
	}
	return `"` + text + `"`
}

// Values of a key in which something is interpolated.
func interpolatedValue(key string, random *rand.Rand) (string, bool) {
	switch key {
	case "environment", "labels", "annotations":
		if random.Intn(2) == 0 {
			return "{I: " + interpolated(random) + ", J: " + interpolated(random) + "}", true
		}
		return `["K=` + strings.Trim(interpolated(random), `"`) + `"]`, true
	case "command", "entrypoint":
		return "[" + interpolated(random) + ", x]", true
	case "user", "working_dir":
		return `"/w` + strings.Trim(interpolated(random), `"`) + `"`, true
	case "build":
		return "{context: ./d, args: {A: " + interpolated(random) + "}}", true
	case "configs":
		return "[{source: c, target: \"/x${NONE:-y}\"}]", true
	default:
		return "", false
	}
}

// Which profiles are chosen, as `.env` says it.
var chosen = []string{"", "p", "q", "p,q", " q , p ", "*", "other", "p,"}

// generate writes an application of random files into a directory.
func generate(directory string, random *rand.Rand) error {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	// The order of a map is random, and not by the seed.
	sortStrings(keys)
	service := func(share float64, tags bool) string {
		var text strings.Builder
		for _, key := range keys {
			if random.Float64() > share {
				continue
			}
			choices := values[key]
			value := choices[random.Intn(len(choices))]
			if text, ok := interpolatedValue(key, random); ok && random.Intn(3) == 0 {
				value = text
			}
			switch {
			case tags && random.Float64() < 0.07:
				value = "!reset null"
			case tags && value != "null" && random.Float64() < 0.1:
				value = "!override " + value
			}
			fmt.Fprintf(&text, "    %s: %s\n", key, value)
		}
		return text.String()
	}
	files := map[string]string{
		".env":          "TAG=tag\nEMPTY=\nSPACED=' s p '\nCOMPOSE_PROFILES=" + chosen[random.Intn(len(chosen))] + "\n",
		"d/f":           "x",
		"d/Dockerfile":  "",
		"d/X":           "",
		"e1.env":        "EA=1\nEB=${TAG}\nA=env\n",
		"e2.env":        "EA='2'\nEC=\"a\\nb\"\n",
		"sub/e1.env":    "SUB=1\n",
		"sub/e2.env":    "SUB=2\n",
		"sub/d/f":       "x",
		"sub/base.yaml": "services:\n  far:\n    image: far\n" + without(service(0.15, false), "image", "depends_on", "links"),
	}
	rest := "  b: {image: b}\n  c: {image: c}\n" + top
	base := "services:\n  a:\n    image: a\n" + without(service(0.3, false), "image")
	switch random.Intn(4) {
	case 0:
		base += "    extends: {file: sub/base.yaml, service: far}\n"
	case 1:
		base += "    extends: z\n  z:\n    image: z\n" + without(service(0.2, false), "image", "depends_on", "links")
	case 2:
		files["sub/compose.yaml"] = "services:\n  i:\n    image: i\n" + without(service(0.2, false), "image", "depends_on", "links")
		if random.Intn(2) == 0 {
			files["sub/.env"] = "TAG=sub\nMORE=1\n"
		}
		base = "include: [sub/compose.yaml]\n" + base
	}
	files["compose.yaml"] = base + rest
	over := func() string {
		text := "services:\n  a:\n    image: over\n" + without(service(0.35, true), "image")
		// A service that the files before may have, and one that only this one has.
		if random.Intn(3) == 0 {
			text += "  b:\n" + service(0.1, true)
		}
		if random.Intn(3) == 0 {
			text += "  e:\n    image: e\n" + without(service(0.1, false), "image")
		}
		return text
	}
	switch random.Intn(4) {
	case 0, 1:
		files["compose.override.yaml"] = over()
	case 2:
		// Named, in an order that is not the alphabet's; the usual override file is then none.
		files["third.yaml"], files["later.yaml"], files["compose.override.yaml"] = over(), over(), over()
		files[".env"] += "COMPOSE_FILE=compose.yaml:third.yaml:later.yaml\n"
	}
	for path, text := range files {
		full := filepath.Join(directory, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func without(text string, keys ...string) string {
	var kept []string
	for _, line := range strings.Split(text, "\n") {
		key, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		drop := false
		for _, other := range keys {
			drop = drop || key == other
		}
		if !drop {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
