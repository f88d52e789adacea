export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/**
 * What makes a shell ask `fishery complete` for the words that may stand at the cursor: a line each, with its description
 * behind a tab; `:files` alone means paths.
 */
export const completionScripts: Readonly<Record<Shell, string>> = {
  bash: `# fishery: completion for bash. Put into ~/.bashrc:  source <(fishery completion bash)
_fishery() {
  local lines
  mapfile -t lines < <("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=()
  if [[ \${lines[0]-} == :files ]]; then
    compopt -o default
    return
  fi
  COMPREPLY=("\${lines[@]%%$'\\t'*}")
}
complete -F _fishery fishery`,
  zsh: `#compdef fishery
# fishery: completion for zsh. Put into ~/.zshrc, after compinit:  source <(fishery completion zsh)
_fishery() {
  local -a lines described
  local line
  lines=("\${(@f)$("\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ \${lines[1]} == :files ]]; then
    _files
    return
  fi
  for line in "\${lines[@]}"; do
    [[ -n $line ]] && described+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  _describe fishery described
}
compdef _fishery fishery`,
  fish: `# fishery: completion for fish. Put into ~/.config/fish/completions/fishery.fish:  fishery completion fish
function __fishery_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l lines ($words[1] complete -- $words[2..-1] 2>/dev/null)
  if test "$lines[1]" = ":files"
    __fish_complete_path (commandline -ct)
  else
    printf '%s\\n' $lines
  end
end
complete -c fishery -f -a '(__fishery_complete)'`,
};
