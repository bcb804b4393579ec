// The compiler transform that makes a contract of an author's file. It reads the decorators, adds to the classes how they are
// encoded, to the module an export for each method, and writes the interface text (INTERFACE.md) into the section
// fondaco.interface. Nothing is written into the author's folder.
//
//   @tx @view @init @upgrade      on functions: the contract's methods; @tx({ roles: […], conflicts: […] })
//   @struct                       on classes that are kept, passed or returned
//   @event                        on classes that emit takes; @indexed on fields to search by
//   @error(1001)                  on classes that are thrown
//
// State needs no decorator: it is what the file makes of StateValue, StateMap, StateMap2, Balances and Counter. Names are turned from
// camelCase to snake_case. The contract's name, version and description are those of package.json.

import { readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// The compiler that is running, wherever it is installed.
const { CommonFlags, DiagnosticCode, LiteralKind, NodeKind, Parser, SourceKind } = await import(
  new URL("../dist/assemblyscript.js", pathToFileURL(realpathSync(process.argv[1]))).href
);

const METHODS = ["tx", "view", "init", "upgrade"];
const CLASSES = ["struct", "event", "error"];
const PLAIN = {
  bool: "bool", u8: "u8", u16: "u16", u32: "u32", u64: "u64", i8: "i8", i16: "i16", i32: "i32", i64: "i64",
  u128: "u128", string: "str", Uint8Array: "bytes", Address: "addr", Hash: "bytes",
};
const STATE = { StateValue: 0, StateMap: 1, StateMap2: 2 }; // and how many of the type arguments are keys
const IMPORTS = `
  import { Reader as __Reader, Writer as __Writer } from "fondaco/cbor";
  import { input as __input, output as __output } from "fondaco/entry";
  import { refuse as __refuse } from "fondaco/failure";
`;

export default class Contract {
  afterParse(parser) {
    this.parser = parser;
    this.classes = new Map(); // name → { kind, code, fields, node, source }
    this.enums = new Map(); // name → node
    this.aliases = new Map(); // name → type node
    this.used = new Set(); // enums that the interface mentions
    this.readers = new Map(); // file and type → the function that reads it
    this.methods = new Set(); // names
    this.lines = [];
    const sources = parser.sources.filter((s) => s.sourceKind === SourceKind.User || s.sourceKind === SourceKind.UserEntry);
    for (const source of sources) this.collect(source);
    for (const [name, type] of this.aliases) {
      if (!this.mentions(type, name)) continue;
      this.error(type.range, `${name} is an alias of itself`);
      this.aliases.delete(name);
    }
    const exports = [];
    for (const source of sources) {
      const added = [IMPORTS];
      for (const node of source.statements) {
        if (node.kind === NodeKind.FunctionDeclaration) this.method(source, node, added, exports);
        if (node.kind === NodeKind.Variable) node.declarations.forEach((d) => this.state(d));
      }
      this.rewrite(source.statements, source);
      source.statements.push(...this.parse(added.join("\n"), source));
      source.sourceKind = SourceKind.User; // its exports are not the module's
    }
    for (const c of this.classes.values()) this.class(c);
    if (exports.length === 0 && sources.length > 0) this.error(sources[0].range, "no function is a method: put @tx or @view before one");
    // The module's exports are those of a file that is only made here.
    const entry = [`import "fondaco/entry";`, ...exports, "export function fondaco_abi_1(): void {}"].join("\n");
    parser.parseFile(entry, "fondaco.generated.ts", true);
  }

  afterCompile(module) {
    for (let i = 0; i < module.getNumFunctions(); i++) {
      const f = this.binaryen.getFunctionInfo(module.getFunctionByIndex(i));
      if (f.module === "fondaco_v1" && f.base === "rand") this.lines.push("random");
    }
    for (const [name, node] of this.enums) {
      if (this.used.has(name)) {
        const values = node.values.map((v) => v.name.text);
        this.lines.push(`enum ${name}(${values.join(", ")})${this.doc(node)}`);
      }
    }
    const about = JSON.parse(readFileSync(join(this.baseDir, "package.json"), "utf8"));
    const name = about.name.replace(/^@.*\//, "").replace(/-/g, "_");
    this.lines.unshift(`contract ${name} ${about.version ?? "0.0.0"}${quoted(about.description)}`);
    module.addCustomSection("fondaco.interface", new TextEncoder().encode(this.lines.join("\n") + "\n"));
  }

  // What the files declare.

  collect(source) {
    for (const node of source.statements) {
      if (node.kind === NodeKind.EnumDeclaration) this.declare(node, this.enums, node);
      if (node.kind === NodeKind.TypeDeclaration) this.declare(node, this.aliases, node.type);
      if (node.kind !== NodeKind.ClassDeclaration) continue;
      const decorator = decorated(node, CLASSES);
      if (!decorator) continue;
      const [kind, name] = [decorator.name.text, node.name.text];
      if (this.classes.has(name)) this.error(node.name.range, `a second class ${name}`);
      const fields = node.members.filter((m) => m.kind === NodeKind.FieldDeclaration && !m.is(CommonFlags.Static));
      this.classes.set(name, { kind, name, fields, node, source, code: kind === "error" ? this.code(decorator) : 0 });
    }
  }

  // Whether an alias is needed to say what a type is.
  mentions(type, alias, seen = new Set()) {
    const name = type.name?.identifier.text;
    if (name === alias) return true;
    const parts = [...(type.typeArguments ?? [])];
    if (this.aliases.has(name) && !seen.has(name)) parts.push(this.aliases.get(name));
    seen.add(name);
    return parts.some((t) => this.mentions(t, alias, seen));
  }

  // A name means one thing in all files, as in the schema. Files may repeat an alias.
  declare({ name }, kind, what) {
    const before = this.enums.get(name.text) ?? this.aliases.get(name.text);
    const repeated = before && kind === this.aliases && before === this.aliases.get(name.text) && print(before) === print(what);
    if (before && !repeated) this.error(name.range, `a second ${name.text}: give one of them another name`);
    kind.set(name.text, what);
  }

  code(decorator) {
    const arg = decorator.args?.[0];
    const code = arg?.literalKind === LiteralKind.Integer ? Number(arg.value) : 0;
    if (code < 1000) this.error(decorator.range, "an error needs a code of 1000 or above, such as @error(1001)");
    return code;
  }

  // The constructor and the codec of a class.
  class({ kind, name, fields, node, source, code }) {
    if (node.extendsType) this.error(node.extendsType.range, `@${kind} ${name} cannot extend a class`);
    const list = fields.map((f) => ({ name: f.name.text, type: f.type, text: f.type ? this.type(f.type) : "" }));
    for (const f of fields) if (!f.type) this.error(f.range, `field ${f.name.text} needs a type`);
    const parameters = list.map((f) => `${f.name}: ${f.type ? print(f.type) : "i32"}`);
    const members = [
      `encode(out: __Writer): void { out.array(${list.length}); ${list.map((f) => `out.put(this.${f.name});`).join(" ")} }`,
      `decode(from: __Reader): void { from.tuple(${list.length}); ${list.map((f) => `this.${f.name} = ${this.read(f.type, source)};`).join(" ")} }`,
      `encodeKey(out: __Writer): void { ${list.map((f) => `out.key(this.${f.name});`).join(" ")} }`,
      `decodeKey(from: __Reader): void { ${list.map((f) => `this.${f.name} = from.key<${f.type ? print(f.type) : "i32"}>();`).join(" ")} }`,
    ];
    if (!node.members.some((m) => m.name?.kind === NodeKind.Constructor)) {
      const assignments = list.map((f) => `this.${f.name} = ${f.name};`);
      members.push(`constructor(${parameters.join(", ")}) { ${assignments.join(" ")} }`);
    }
    if (kind === "event") members.push(`encodeTopic(out: __Writer): i32 { out.utf8("${name}"); return out.length; }`);
    node.members.push(...this.parse(`class X {\n${members.join("\n")}\n}`, source)[0].members);

    const indexed = fields.filter((f) => decorated(f, ["indexed"])).map((f) => snake(f.name.text));
    const text = `${name}(${list.map((f) => `${snake(f.name)}: ${f.text}`).join(", ")})`;
    this.lines.push(
      (kind === "error" ? `error ${code} ${text}` : `${kind} ${text}`) +
        (indexed.length > 0 ? ` indexed ${indexed.join(",")}` : "") + this.doc(node),
    );
  }

  // A method's export, which reads the arguments, calls the function and writes the result.
  method(source, node, added, exports) {
    const decorator = decorated(node, METHODS);
    if (!decorator) return;
    const kind = decorator.name.text;
    const name = snake(node.name.text);
    if ((kind === "init" || kind === "upgrade") && name !== kind) this.error(node.name.range, `the function with @${kind} is called ${kind}`);
    if (this.methods.has(name)) this.error(node.name.range, `a second method ${name}`);
    this.methods.add(name);
    const { parameters, returnType } = node.signature;
    for (const p of parameters) if (p.initializer) this.error(p.range, `argument ${p.name.text} of a method cannot have a default`);
    const args = parameters.map((p) => `${snake(p.name.text)}: ${this.type(p.type)}`);
    const returns = print(returnType) === "void" ? "" : this.type(returnType);
    const reads = parameters.map((p, i) => `const a${i} = ${this.read(p.type, source)};`);
    const result = `${node.name.text}(${parameters.map((_, i) => `a${i}`).join(", ")})`;
    added.push(`export function __method_${name}(): i32 {
      const from = __input(${parameters.length}); ${reads.join(" ")} from.done();
      ${returns ? `__output<${print(returnType)}>(${result})` : result};
      return 0;
    }`);
    const path = source.normalizedPath.replace(/\.ts$/, "");
    exports.push(`export { __method_${name} as ${name} } from "./${path}";`);
    const options = this.options(decorator);
    const head = kind === "init" || kind === "upgrade" ? kind : `${kind} ${name}`;
    this.lines.push(
      `${head}(${args.join(", ")})${returns && ` -> ${returns}`}` +
        (options.roles ? ` roles ${options.roles}` : "") + (options.conflicts ? ` conflicts ${options.conflicts}` : "") + this.doc(node),
    );
  }

  options(decorator) {
    const options = {};
    const arg = decorator.args?.[0];
    if (!arg) return options;
    const known = ["roles", "conflicts"];
    for (let i = 0; i < (arg.names?.length ?? 0); i++) {
      const list = arg.values[i].elementExpressions;
      const name = arg.names[i].text;
      if (known.includes(name) && list?.every((e) => e.literalKind === LiteralKind.String)) options[name] = list.map((e) => e.value).join(",");
      else this.error(arg.names[i].range, `want roles: ["…"] or conflicts: ["…"]`);
    }
    if (!arg.names) this.error(arg.range, `want { roles: ["…"], conflicts: ["…"] }`);
    return options;
  }

  state(declaration) {
    const made = declaration.initializer;
    if (made?.kind !== NodeKind.New) return;
    const kind = made.typeName.identifier.text;
    const keyed = kind === "Balances" ? 1 : STATE[kind];
    if (kind !== "Counter" && keyed === undefined) return;
    const name = made.args[0];
    if (name?.literalKind !== LiteralKind.String) return this.error(made.range, `the name of state is a text, such as new ${kind}("bal")`);
    const types = made.typeArguments ?? [];
    if (kind === "Counter") return this.lines.push(`state ${name.value} -> i64${this.doc(declaration)}`);
    const keys = types.slice(0, keyed).flatMap((t) => this.key(t));
    const value = kind === "Balances" ? "u128" : types.length > keyed ? this.type(types[keyed]) : "";
    this.lines.push(`state ${name.value}${keys.length > 0 ? `(${keys.join(", ")})` : ""} -> ${value}${this.doc(declaration)}`);
  }

  // The parts of a key: a struct stands for its fields.
  key(type) {
    const struct = this.classes.get(type.name?.identifier.text);
    if (struct && !type.isNullable) return struct.fields.flatMap((f) => (f.type ? this.key(f.type) : []));
    const text = this.type(type);
    if (!/^([ui]\d+|str|bytes|addr)$/.test(text)) this.error(type.range, `${print(type)} is no key: want an integer, string, Uint8Array, Address, or a @struct of those`);
    return [text];
  }

  // A type in the words of the interface text.
  type(node) {
    if (node.kind !== NodeKind.NamedType) {
      this.error(node.range, "a function is no value of a contract");
      return "bool";
    }
    const meant = this.resolve(node);
    if (meant !== node) return this.type(meant);
    if (node.isNullable) return `opt<${this.type(plain(node))}>`;
    const name = node.name.identifier.text;
    const args = node.typeArguments ?? [];
    if (name in PLAIN) return PLAIN[name];
    if (name === "Array" && args.length === 1) return `list<${this.type(args[0])}>`;
    if (name === "Box" && args.length === 1) return this.type(args[0]);
    if (this.enums.has(name)) {
      this.used.add(name);
      return name;
    }
    if (this.classes.get(name)?.kind === "struct") return name;
    if (name === "f32" || name === "f64" || name === "number") this.error(node.range, `${name}: contracts have no floating point; use u128 or an integer`);
    else if (name === "Map" || name === "Set") this.error(node.range, `${name} has no one byte form: use an array of a @struct`);
    else this.error(node.range, `${print(node)} cannot be kept or passed: want bool, an integer of stated width, u128, string, Uint8Array, Address, Hash, an array, or a class with @struct`);
    return "bool";
  }

  // The type that an alias stands for; any other type as it is.
  resolve(node) {
    const target = node.kind === NodeKind.NamedType && this.aliases.get(node.name.identifier.text);
    return target ? this.resolve(node.isNullable ? nullable(target) : target) : node;
  }

  // How many values an enum has; 0 for other types.
  variants(node) {
    const found = this.enums.get(node.name?.identifier.text);
    const initialized = found?.values.find((v) => v.initializer);
    if (initialized) this.error(initialized.range, `the values of ${found.name.text} count from 0: leave the numbers out`);
    return found?.values.length ?? 0;
  }

  // Whether values of a type have those of an enum in them, but in the fields of classes, which are read by their own code.
  holdsEnum(type) {
    const node = this.resolve(type);
    if (node.kind !== NodeKind.NamedType) return false;
    const name = node.name.identifier.text;
    return this.enums.has(name) || ((name === "Array" || name === "Box") && (node.typeArguments ?? []).some((t) => this.holdsEnum(t)));
  }

  // An expression that reads a value from the Reader `from`. Enums are numbers to the compiler, and are checked here. The text is
  // how the type is called in the source.
  read(type, source, text = type && print(type)) {
    if (!type || type.kind !== NodeKind.NamedType) return "0";
    if (!this.holdsEnum(type)) return `from.get<${text}>()`;
    const meant = this.resolve(type);
    const variants = this.variants(meant);
    return variants && !meant.isNullable ? `from.enum(${variants})` : `${this.reader(meant, source, text)}(from)`;
  }

  // The name of a function that does the same.
  reader(type, source, text) {
    const key = `${source.normalizedPath} ${text}`;
    if (this.readers.has(key)) return this.readers.get(key);
    const name = `__read_${this.readers.size}`;
    this.readers.set(key, name);
    const node = this.resolve(type);
    const read = (node, text) => this.read(node, source, text);
    let body = `return ${read(node, text)};`; // of an enum
    if (node.isNullable) body = `if (from.null()) return null; return ${read(plain(node), `NonNullable<${text}>`)};`;
    else if (node.name.identifier.text === "Box") body = `return instantiate<${text}>(${read(node.typeArguments[0])});`;
    else if (node.name.identifier.text === "Array") {
      body = `const list = instantiate<${text}>(from.array());
        for (let i = 0; i < list.length; i++) list[i] = ${read(node.typeArguments[0], `valueof<${text}>`)};
        return list;`;
    }
    source.statements.push(...this.parse(`function ${name}(from: __Reader): ${text} { ${body} }`, source));
    return name;
  }

  // Goes through all code of a file. `throw new X(…)` of @error classes becomes a call that ends the call with X's code and fields,
  // and what reads state or the output of another contract, where enums are in it, is given the function that checks them.
  rewrite(node, source) {
    for (const key of Object.keys(node)) {
      const child = node[key];
      if (key === "range" || child === null || typeof child !== "object") continue;
      const error = child.kind === NodeKind.Throw && child.value.kind === NodeKind.New && this.classes.get(child.value.typeName.identifier.text);
      if (error && error.kind === "error") {
        // It stays a throw, after which the compiler knows that nothing follows.
        const [f] = this.parse(`function f(): void { throw new Error(__refuse(${error.code}, x)); }`, child.range.source);
        const thrown = f.body.statements[0].value;
        const call = thrown.args[0];
        call.args[0].range = child.value.range;
        call.args[1] = child.value;
        child.value = thrown;
      }
      const made = child.kind === NodeKind.New ? child.typeName.identifier.text : "";
      if (made in STATE) this.checked(child, child.typeArguments?.[STATE[made]], source);
      if (child.kind === NodeKind.Call && child.expression.property?.text === "value" && child.typeArguments?.length === 1) {
        this.checked(child, child.typeArguments[0], source);
      }
      if (Array.isArray(child) || child.kind !== undefined) this.rewrite(child, source);
    }
  }

  // Gives an expression that will read values of a type the function that does, if enums are in them.
  checked(expression, type, source) {
    if (!type) return this.error(expression.range, `state needs its types here, such as new StateMap<Address, u128>("bal")`);
    const node = this.resolve(type);
    const name = node.name?.identifier.text;
    const known = name in PLAIN || ["Array", "Box"].includes(name) || this.enums.has(name) || this.classes.get(name)?.kind === "struct";
    if (!known) this.error(type.range, `${print(type)} is not known here: name the type of the value, so that enums in it can be checked`);
    if (!this.holdsEnum(type)) return;
    const [given] = this.parse(`${this.reader(node, source, print(type))};`, source);
    given.expression.range = expression.range;
    expression.args.push(given.expression);
  }

  // The documentation comment before a declaration.
  doc(node) {
    const first = Math.min(node.range.start, ...(node.decorators ?? []).map((d) => d.range.start));
    const before = node.range.source.text.slice(0, first).replace(/\b(export\s+)?(const|let)?\s*$/, "");
    const comment = /\/\*\*((?:(?!\*\/)[^])*)\*\/\s*$/.exec(before);
    return quoted(comment?.[1].replace(/^[ \t]*\*?[ \t]?/gm, "").replace(/\s+/g, " ").trim());
  }

  error(range, text) {
    this.parser.error(DiagnosticCode.User_defined_0, range, text);
  }

  // Parses text as if it stood in a source.
  parse(text, source) {
    const parser = new Parser(this.parser.diagnostics);
    parser.parseFile(text, source.normalizedPath, false);
    return parser.sources[0].statements;
  }
}

function decorated(node, names) {
  return node.decorators?.find((d) => names.includes(d.name.text));
}

// A type as its author wrote it.
function print(node) {
  if (node.kind !== NodeKind.NamedType) return "void";
  let text = node.name.identifier.text;
  for (let n = node.name.next; n; n = n.next) text += "." + n.identifier.text;
  if (node.typeArguments?.length) text += `<${node.typeArguments.map(print).join(", ")}>`;
  return node.isNullable ? text + " | null" : text;
}

// The same type, or null.
function nullable(node) {
  return Object.assign(Object.create(Object.getPrototypeOf(node)), node, { isNullable: true });
}

// The same type without null.
function plain(node) {
  return Object.assign(Object.create(Object.getPrototypeOf(node)), node, { isNullable: false });
}

function snake(name) {
  return name.replace(/[A-Z]/g, (c, at) => (at > 0 ? "_" : "") + c.toLowerCase());
}

function quoted(text) {
  return text ? " " + JSON.stringify(text) : "";
}
