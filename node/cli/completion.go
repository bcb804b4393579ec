package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself what may follow, so they need no update with it.
const (
	bashCompletion = `# bash completion for fondaco: source it, or put it into /etc/bash_completion.d/fondaco
_fondaco() {
  local word=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ $word == -* ]] && words+=("$word")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$word"))
}
complete -o bashdefault -o default -F _fondaco fondaco
`
	zshCompletion = `#compdef fondaco
# zsh completion for fondaco: source it, or put it into a folder of $fpath as _fondaco
_fondaco() {
  local -a found
  local word=${words[CURRENT]}
  local -a line=("${(@)words[1,CURRENT-1]}")
  [[ $word == -* ]] && line+=("$word")
  found=("${(@f)$("${line[@]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n ${found[1]} ]]; then compadd -a found; else _files; fi
}
compdef _fondaco fondaco
[[ $funcstack[1] == _fondaco ]] && _fondaco "$@"
`
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script for a shell",
		ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 1, 1, "bash|zsh|fish")
			if err != nil {
				return err
			}
			script := ""
			switch args[0] {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				if script, err = c.App.ToFishCompletion(); err != nil {
					return err
				}
			default:
				return usage("there is no completion for %q: want bash, zsh or fish", args[0])
			}
			_, err = fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
