// Enums in every place where a contract reads values.
import { Address, Box, StateMap, StateMap2, StateValue, call } from "fondaco";
import { Side, Sides } from "./sides";

type Way = Side;
type MaybeWays = Way[] | null;
type Rows = Sides[];

@struct class Order {
  way: Way;
  ways: MaybeWays;
  rows: Rows;
  boxed: Box<Way> | null;
}

/** The fields of an Order, one after the other; 255 for what is absent. */
function flat(o: Order): i32[] {
  const all: i32[] = [o.way];
  const ways = o.ways, boxed = o.boxed;
  if (ways === null) all.push(255);
  else for (let i = 0; i < ways.length; i++) all.push(ways[i]);
  for (let i = 0; i < o.rows.length; i++) for (let j = 0; j < o.rows[i].length; j++) all.push(o.rows[i][j]);
  all.push(boxed === null ? 255 : boxed.value);
  return all;
}

const value = new StateValue<Side>("side");
const alias = new StateValue<Way>("way");
const list = new StateValue<MaybeWays>("ways");
const map = new StateMap<u8, Side[][]>("rows");
const pairs = new StateMap2<u8, u8, Box<Side> | null>("boxed");
const orders = new StateMap<u8, Order>("order");

@view
export function sideAlias(way: Way): Way {
  return way;
}

@view
export function sideMaybe(ways: Side[] | null, alias: MaybeWays): i32 {
  return (ways === null ? 0 : ways.length) + (alias === null ? 0 : alias.length);
}

@view
export function sideRows(rows: Side[][], alias: Rows, far: Sides): i32 {
  return rows.length + alias.length + far.length;
}

@view
export function sideBox(box: Box<Side>, alias: Box<Way> | null): Side {
  return alias === null ? box.value : alias.value;
}

@view
export function sideOrder(order: Order, more: Order[] | null): i32[] {
  return more === null || more.length == 0 ? flat(order) : flat(more[0]);
}

@view
export function sideState(place: u8): i32 {
  if (place == 0) return value.get();
  if (place == 1) return alias.get();
  if (place == 2) {
    const ways = list.get();
    return ways === null ? -1 : ways[0];
  }
  if (place == 3) {
    const rows = map.find(1);
    return rows === null ? -1 : rows[0][0];
  }
  if (place == 4) {
    const page = pairs.scan(1, 1);
    if (!page.next()) return -1;
    const box = page.value;
    return box === null ? -1 : box.value;
  }
  const order = orders.find(1);
  return order === null ? -1 : order.way;
}

@view
export function sideAsked(to: Address, list: bool): i32 {
  if (list) return call(to, "list").send().value<Sides>()[0];
  return call(to, "side").send().value<Way>();
}

/** The order under a number, which must be there. */
@view
export function sideMust(number: u8): Side {
  return orders.get(number).way;
}
