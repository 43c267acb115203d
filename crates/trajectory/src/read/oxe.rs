//! Control frequencies of the Open X-Embodiment datasets.
//!
//! RLDS records no instants; the rate at which a set was recorded is known only from outside. The numbers are the
//! facts that the any4lerobot project states for the mixture (github.com/Tavish9/any4lerobot,
//! `openx2lerobot/oxe_utils/configs.py`, key `control_frequency`). A set without a rate there (`stanford_mask_vit`) is
//! left out, and so is every set it does not list: the caller then has to state the rate, since a guess would silently
//! stretch time. Two names are added: `bridge`, which is what TFDS calls the listed `bridge_oxe`, and `droid_100`, the
//! published sample of `droid`.
//!
//! These are nominal rates. The `libero_*_no_noops` sets had idle steps removed, so their steps are 1/20 s of control
//! each rather than 1/20 s of wall time.

/// Dataset name as TFDS spells it, less [`CONVERTED_SUFFIX`], and its rate in hertz; sorted by name.
const CONTROL_FREQUENCIES_HZ: &[(&str, &str)] = &[
    ("asu_table_top", "12.5"),
    ("austin_buds_dataset", "20"),
    ("austin_sailor_dataset", "20"),
    ("austin_sirius_dataset", "20"),
    ("bc_z", "10"),
    ("berkeley_autolab_ur5", "5"),
    ("berkeley_cable_routing", "10"),
    ("berkeley_fanuc_manipulation", "10"),
    ("berkeley_gnm_cory_hall", "5"),
    ("berkeley_gnm_recon", "3"),
    ("berkeley_gnm_sac_son", "10"),
    ("berkeley_mvp", "5"),
    ("berkeley_rpt", "30"),
    ("bridge", "5"),
    ("bridge_dataset", "5"),
    ("bridge_orig", "5"),
    ("bridge_oxe", "5"),
    ("cmu_franka_exploration_dataset", "10"),
    ("cmu_play_fusion", "5"),
    ("cmu_playing_with_food", "10"),
    ("cmu_stretch", "10"),
    ("columbia_cairlab_pusht_real", "10"),
    ("dlr_edan_shared_control", "5"),
    ("dlr_sara_grid_clamp", "10"),
    ("dlr_sara_pour", "10"),
    ("dobbe", "3.75"),
    ("droid", "15"),
    ("droid_100", "15"),
    ("droid_wipe", "15"),
    ("fmb_dataset", "10"),
    ("fractal20220817_data", "3"),
    ("furniture_bench_dataset", "10"),
    ("iamlab_cmu_pickup_insert", "20"),
    ("imperialcollege_sawyer_wrist_cam", "10"),
    ("jaco_play", "10"),
    ("kaist_nonprehensile", "10"),
    ("kuka", "10"),
    ("language_table", "10"),
    ("libero_10_no_noops", "20"),
    ("libero_goal_no_noops", "20"),
    ("libero_object_no_noops", "20"),
    ("libero_spatial_no_noops", "20"),
    ("maniskill_dataset", "20"),
    ("nyu_door_opening_surprising_effectiveness", "3"),
    ("nyu_franka_play_dataset", "3"),
    ("nyu_rot_dataset", "3"),
    ("rh20t", "10"),
    ("robo_net", "1"),
    ("roboset", "5"),
    ("roboturk", "10"),
    ("stanford_hydra_dataset", "10"),
    ("stanford_kuka_multimodal_dataset", "20"),
    ("stanford_robocook", "5"),
    ("taco_play", "15"),
    ("tdroid_carrot_in_bowl", "5"),
    ("tdroid_cover_object_with_towel", "5"),
    ("tdroid_flip_pot_upright", "5"),
    ("tdroid_knock_object_over", "5"),
    ("tdroid_move_object_onto_plate", "5"),
    ("tdroid_pour_corn_in_pot", "5"),
    ("tokyo_u_lsmo", "10"),
    ("toto", "30"),
    ("ucsd_kitchen_dataset", "2"),
    ("ucsd_pick_and_place_dataset", "3"),
    ("uiuc_d3field", "1"),
    ("utaustin_mutex", "20"),
    ("utokyo_pr2_opening_fridge", "10"),
    ("utokyo_pr2_tabletop_manipulation", "10"),
    ("utokyo_xarm_bimanual", "10"),
    ("utokyo_xarm_pick_and_place", "10"),
    ("viola", "20"),
];

/// What the mixture appends to the names of sets that others converted; the table does without.
const CONVERTED_SUFFIX: &str = "_converted_externally_to_rlds";

/// The rate in hertz, as text such as `3.75`, at which the dataset called `dataset_name` (the `name` of its `dataset_info.json`) was recorded; `None`
/// where the table does not know it.
#[must_use]
pub fn control_frequency(dataset_name: &str) -> Option<&'static str> {
    let base = dataset_name.strip_suffix(CONVERTED_SUFFIX).unwrap_or(dataset_name);
    let at = CONTROL_FREQUENCIES_HZ.binary_search_by_key(&base, |(name, _)| name).ok()?;
    Some(CONTROL_FREQUENCIES_HZ[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_one_and_names_are_sorted_and_unique() {
        assert!(CONTROL_FREQUENCIES_HZ.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, rate) in CONTROL_FREQUENCIES_HZ {
            assert!(rate.parse::<f64>().is_ok_and(|hz| (0.1..=100.0).contains(&hz)), "{name}");
            assert!(control_frequency(name).is_some(), "{name}");
        }
    }

    #[test]
    fn known_sets_have_their_rates_and_others_have_none() {
        let rate = control_frequency;
        assert_eq!(rate("bridge_dataset"), Some("5"));
        assert_eq!(rate("dobbe"), Some("3.75"));
        assert_eq!(rate("asu_table_top_converted_externally_to_rlds"), Some("12.5"));
        assert_eq!(rate("stanford_mask_vit_converted_externally_to_rlds"), None);
        assert_eq!(rate("my_own_robot"), None);
        assert_eq!(rate(""), None);
    }
}
