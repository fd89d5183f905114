"""An episode as a page that any browser shows, without a network: all that it takes lies in the one file.

Brax's own page (brax.io.html) loads three.js, lil-gui, pako and its viewer from servers, and its package holds none of
the first three; this one draws with WebGL alone, which for solid bodies under a light is little code.

Letters in shapes: F frames, G shapes that are drawn, V vertices, I corners of triangles.
"""

import base64
import json
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxrl.host import recording
from jaxrl.host.recording import Recording

RATE = 60.0  # frames a second, at most
FIRST_HIDDEN_GROUP = 3  # of MuJoCo's groups of geoms, the first that its own viewer does not show
SEGMENTS = 24  # of a circle
ENDLESS = 5000.0  # m from the middle to the edge of a plane without end
TEMPLATE = Path(__file__).with_name("viewer.html")


def page(episode: Recording) -> str:
    """The page, as HTML."""
    model = episode.model
    shown = [i for i in range(model.ngeom) if model.geom_group[i] < FIRST_HIDDEN_GROUP and _colour(model, i)[3] > 0]
    shapes, places, geoms = [], {}, []
    for i in shown:
        form = (model.geom_type[i].item(), tuple(model.geom_size[i]), model.geom_dataid[i].item())
        if form not in places:
            solid = _solid(model, i)
            if solid is None:
                continue
            places[form] = len(shapes)
            shapes.append({name: _encode(part) for name, part in zip(("at", "normal", "corner"), solid, strict=True)})
        is_floor = int(model.geom_type[i]) == int(mujoco.mjtGeom.mjGEOM_PLANE)
        geoms.append((i, {"shape": places[form], "colour": _colour(model, i), "isFloor": is_floor}))
    qpos, seconds = recording.frames(episode, RATE)
    drawn = [i for i, _ in geoms]
    where = poses(model, qpos, drawn)
    follow, offset, size = _focus(model, where[0], drawn)
    content = {
        "title": f"{episode.config.env.name} after {episode.env_steps:,} env steps: return {episode.reward.sum():.6g} "
        f"in {len(episode.reward):,} steps",
        "seconds": seconds,
        "shapes": shapes,
        "geoms": [geom for _, geom in geoms],
        "poses": _encode(where),
        "follow": follow,
        "offset": offset.tolist(),
        "distance": 1.5 * size,
    }
    # A text in a script must not end it.
    return TEMPLATE.read_text(encoding="utf-8").replace("{{content}}", json.dumps(content).replace("<", "\\u003c"))


def poses(model: Any, qpos: np.ndarray, geoms: list[int]) -> np.ndarray:
    """Where the geoms are in each frame: [F, G, 7] float32, position (m) and quaternion (w, x, y, z) in the world."""
    data = mujoco.MjData(model)
    told = np.zeros((len(qpos), len(geoms), 7))
    for frame, position in zip(told, qpos, strict=True):
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        for row, i in zip(frame, geoms, strict=True):
            row[:3] = data.geom_xpos[i]
            mujoco.mju_mat2Quat(row[3:], data.geom_xmat[i])
    return told.astype(np.float32)


def _focus(model, pose, geoms) -> tuple[int, np.ndarray, float]:
    """What to look at: a geom that moves, by number; the middle of all that do, seen from it; their extent (m)."""
    moving = [number for number, i in enumerate(geoms) if model.body_weldid[model.geom_bodyid[i]]] or [0]
    radius = model.geom_rbound[[geoms[number] for number in moving], None]
    at = pose[moving, :3]
    low, high = (at - radius).min(axis=0), (at + radius).max(axis=0)
    return moving[0], (low + high) / 2 - at[0], max(np.linalg.norm(high - low).item(), 0.1)


def _colour(model, i) -> list[float]:
    """Red, green, blue and opacity in [0, 1]; those of its material, if it has one."""
    material = model.geom_matid[i]
    return (model.mat_rgba[material] if material >= 0 else model.geom_rgba[i]).astype(float).round(3).tolist()


def _solid(model, i):
    """A geom in its own frame: vertices [V, 3] (m), normals [V, 3], corners of triangles [I]; None if unknown."""
    types = mujoco.mjtGeom
    kind, size = types(int(model.geom_type[i])), model.geom_size[i]
    if kind in (types.mjGEOM_SPHERE, types.mjGEOM_ELLIPSOID, types.mjGEOM_CAPSULE):
        radii = size if kind == types.mjGEOM_ELLIPSOID else np.full(3, size[0])
        return ball(radii, size[1] if kind == types.mjGEOM_CAPSULE else 0.0)
    if kind == types.mjGEOM_CYLINDER:
        return cylinder(size[0], size[1])
    if kind == types.mjGEOM_BOX:
        return box(size)
    if kind == types.mjGEOM_PLANE:
        x, y = (edge if 0 < edge < recording.FLOOR else ENDLESS for edge in size[:2])
        at = np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]])
        return at, np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([0, 1, 2, 0, 2, 3])
    if kind == types.mjGEOM_MESH:
        mesh = model.geom_dataid[i]
        vertices = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
        faces = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
        return facets(model.mesh_vert[vertices], model.mesh_face[faces])
    return None


def ball(radii: np.ndarray, half_length: float = 0.0):
    """An ellipsoid, cut in two halves that stand apart along z: a capsule."""
    rings = SEGMENTS // 2  # an even number: the two rings at the equator belong to the halves
    polar = np.concatenate([np.linspace(0, np.pi / 2, rings // 2 + 1), np.linspace(np.pi / 2, np.pi, rings // 2 + 1)])
    side = np.repeat([1.0, -1.0], rings // 2 + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, SEGMENTS + 1)[None]
    unit = np.stack(
        [np.sin(polar)[:, None] * np.cos(around), np.sin(polar)[:, None] * np.sin(around),
         np.cos(polar)[:, None] * np.ones_like(around)], axis=-1,
    )  # fmt: skip
    at = unit * radii
    at[..., 2] += side * half_length
    return at.reshape(-1, 3), (unit / radii).reshape(-1, 3), _grid(*unit.shape[:2])


def cylinder(radius: float, half_length: float):
    """Along z, with its ends."""
    around = np.linspace(0, 2 * np.pi, SEGMENTS + 1)
    circle = np.stack([np.cos(around), np.sin(around), np.zeros_like(around)], axis=-1)
    up = np.array([0.0, 0.0, 1.0])
    rows = [
        (up * half_length + 0 * circle, up + 0 * circle), (up * half_length + radius * circle, up + 0 * circle),
        (up * half_length + radius * circle, circle), (-up * half_length + radius * circle, circle),
        (-up * half_length + radius * circle, -up + 0 * circle), (-up * half_length + 0 * circle, -up + 0 * circle),
    ]  # fmt: skip
    at, normal = (np.concatenate(part) for part in zip(*rows, strict=True))
    return at, normal, _grid(len(rows), SEGMENTS + 1)


def box(half_sizes: np.ndarray):
    """With an edge between all faces."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [(a, b, c) for a, b, c, d in faces] + [(a, c, d) for a, b, c, d in faces]
    return facets(corners * half_sizes, np.array(triangles))


def facets(vertices: np.ndarray, faces: np.ndarray):
    """A mesh of flat triangles: each has corners of its own. vertices [V, 3], faces [I / 3, 3]."""
    at = vertices[faces]
    normal = np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    return at.reshape(-1, 3), np.repeat(normal, 3, axis=0), np.arange(3 * len(faces))


def _grid(rows: int, columns: int) -> np.ndarray:
    """The corners of the triangles between rows of vertices, seen from outside against the clock."""
    i = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]
    return np.stack([a, b, c, a, c, d], axis=-1).reshape(-1)


def _encode(array: np.ndarray) -> str:
    """Base64 of little-endian float32, or uint32 of whole numbers."""
    kind = "<u4" if np.issubdtype(array.dtype, np.integer) else "<f4"
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode("ascii")
