// Compares how Maquette puts Compose files together with how compose-go does, Docker's own reader.
//
// Both read every directory that is named. Maquette's result, one file without includes, extends and references to
// variables, is read by compose-go again, so that both sides end in the same normal form; then they are compared.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
)

const name = "project"

func main() {
	count := flag.Int("random", 0, "how many random applications to compare as well")
	seed := flag.Int64("seed", 0, "what makes them the same again; 0 for another one each time")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: compose-diff [-random N] [-seed S] READER [DIRECTORY…]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() < 1 {
		flag.Usage()
		os.Exit(2)
	}
	logrus.SetLevel(logrus.ErrorLevel)
	if *seed == 0 {
		*seed = time.Now().UnixNano() % 1_000_000_000
	}
	reader, differing, failing, refusing := absolute(flag.Arg(0)), 0, 0, 0
	directories := make([]string, 0, flag.NArg()+*count)
	for _, directory := range flag.Args()[1:] {
		directories = append(directories, absolute(directory))
	}
	if *count > 0 {
		fmt.Printf("%d random applications; the same again: -seed %d\n", *count, *seed)
		folder, err := os.MkdirTemp("", "compose-diff-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for index := range *count {
			directory := filepath.Join(folder, fmt.Sprintf("random-%d-%d", *seed, index))
			if err := generate(directory, rand.New(rand.NewSource(*seed*1_000_003+int64(index)))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			directories = append(directories, directory)
		}
		// Those that differ are for people to look at.
		defer func() {
			if differing+failing == 0 {
				_ = os.Chdir("/")
				_ = os.RemoveAll(folder)
			} else {
				fmt.Println("the random ones are in", folder)
				os.Exit(1)
			}
		}()
	}
	for _, directory := range directories {
		differences, refused, err := compare(reader, directory)
		switch {
		case err != nil:
			failing++
			fmt.Printf("%-32s FAILED\n    %s\n", filepath.Base(directory), strings.ReplaceAll(err.Error(), "\n", "\n    "))
		case len(differences) > 0:
			differing++
			fmt.Printf("%-32s DIFFERS\n", filepath.Base(directory))
			for _, difference := range differences {
				fmt.Println("    " + difference)
			}
		case refused && strings.HasPrefix(filepath.Base(directory), "random-"):
			refusing++
		case refused:
			fmt.Printf("%-32s same: both refuse\n", filepath.Base(directory))
		case strings.HasPrefix(filepath.Base(directory), "random-"):
		default:
			fmt.Printf("%-32s same\n", filepath.Base(directory))
		}
	}
	all := len(directories)
	fmt.Printf("\n%d of %d are the same, %d differ, %d failed; %d random ones are refused by both\n", all-differing-failing, all, differing, failing, refusing)
	if *count == 0 && differing+failing > 0 {
		os.Exit(1)
	}
}

func sortStrings(texts []string) { sort.Strings(texts) }

func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// compare tells what differs, or that both refuse.
func compare(reader, directory string) ([]string, bool, error) {
	theirs, theirError := reference(directory)
	ours, chosen, ourError := own(reader, directory)
	switch {
	case theirError != nil && ourError != nil:
		return nil, true, nil
	case theirError != nil:
		return nil, false, fmt.Errorf("compose-go refuses what Maquette reads: %w", theirError)
	case ourError != nil:
		return nil, false, fmt.Errorf("Maquette refuses what compose-go reads: %w", ourError)
	}
	var differences []string
	diff("", theirs, ours, &differences)
	// One that runs and needs one that does not is refused there; Maquette tells that when it reads on.
	if running, err := chosenServices(directory); err == nil {
		diff("chosen", running, chosen, &differences)
	}
	return differences, false, nil
}

// chosenServices is which services run by the profiles that `.env` chooses, as compose-go has it.
func chosenServices(directory string) (any, error) {
	project, err := load(directory, cli.WithDefaultProfiles())
	if err != nil {
		return nil, err
	}
	names := []any{}
	for _, name := range project.ServiceNames() {
		names = append(names, name)
	}
	return names, nil
}

// reference is what compose-go makes of a directory, with all profiles.
func reference(directory string) (any, error) {
	project, err := load(directory, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	return normal(project)
}

// load has compose-go read a directory, without the environment of this process.
func load(directory string, profiles cli.ProjectOptionsFn) (*types.Project, error) {
	// What `COMPOSE_FILE` names is looked for where the process is.
	if err := os.Chdir(directory); err != nil {
		return nil, err
	}
	options, err := cli.NewProjectOptions(nil,
		cli.WithWorkingDirectory(directory),
		cli.WithEnv([]string{"COMPOSE_PROJECT_NAME=" + name, "PWD=" + directory}),
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithDefaultConfigPath,
		profiles,
	)
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// own is what Maquette makes of it, in compose-go's normal form, and which services its profiles choose.
func own(reader, directory string) (any, any, error) {
	var out, problems bytes.Buffer
	command := exec.Command(reader, directory)
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		return nil, nil, errors.New(strings.TrimSpace(problems.String()))
	}
	var top struct {
		Chosen []any `json:"x-chosen"`
	}
	if err := json.Unmarshal(out.Bytes(), &top); err != nil {
		return nil, nil, err
	}
	text := strings.ReplaceAll(out.String(), "$", "$$")
	details := types.ConfigDetails{
		WorkingDir:  directory,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(directory, "resolved.json"), Content: []byte(text)}},
		Environment: types.Mapping{},
	}
	project, err := loader.LoadWithContext(context.Background(), details, func(options *loader.Options) {
		options.SetProjectName(name, true)
		options.Profiles = []string{"*"}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("compose-go refuses Maquette's result: %w", err)
	}
	value, err := normal(project)
	return value, top.Chosen, err
}

// normal is a project as JSON values, environments resolved, files named by where they lie.
func normal(project *types.Project) (any, error) {
	project, err := project.WithServicesEnvironmentResolved(true)
	if err != nil {
		return nil, err
	}
	project.ComposeFiles, project.Environment = nil, nil
	text, err := project.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	return value, nil
}

func diff(path string, theirs, ours any, out *[]string) {
	left, leftIsMap := theirs.(map[string]any)
	right, rightIsMap := ours.(map[string]any)
	if leftIsMap && rightIsMap {
		keys := map[string]bool{}
		for key := range left {
			keys[key] = true
		}
		for key := range right {
			keys[key] = true
		}
		sorted := make([]string, 0, len(keys))
		for key := range keys {
			sorted = append(sorted, key)
		}
		sort.Strings(sorted)
		for _, key := range sorted {
			// Extensions have no effect of their own.
			if !strings.HasPrefix(key, "x-") {
				diff(path+"."+key, left[key], right[key], out)
			}
		}
		return
	}
	if !reflect.DeepEqual(theirs, ours) {
		*out = append(*out, fmt.Sprintf("%s: compose-go %s, Maquette %s", strings.TrimPrefix(path, "."), show(theirs), show(ours)))
	}
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return string(text)
}
